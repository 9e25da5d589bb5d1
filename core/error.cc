#include "core/error.h"

namespace hew {

BackendError::BackendError(std::string_view api, int code, std::string_view message,
                           std::source_location where)
    : Error(code == 0 ? fmt::format("[{}] {}", api, message)
                      : fmt::format("[{}] failed with code {}: {} ({}:{})", api, code, message,
                                    where.file_name(), where.line())) {}

}  // namespace hew
