#include "io/atomic_folder.h"

#include <fmt/format.h>
#include <unistd.h>

#include <system_error>

#include "core/error.h"
#include "io/atomic_file.h"

namespace hew {
namespace {

// "models/gpt/" and "models/gpt" are one folder.
std::filesystem::path without_slash(const std::filesystem::path& path) {
  return path.has_filename() ? path : path.parent_path();
}

std::filesystem::path beside(const std::filesystem::path& path, const char* word) {
  return path.string() + fmt::format(".{}.{}", word, ::getpid());
}

}  // namespace

AtomicFolder::AtomicFolder(const std::filesystem::path& path)
    : path_(without_slash(path)), temporary_(beside(path_, "tmp")) {
  require<DataError>(path_.has_filename(), "'{}' does not name a folder", path.string());
  std::error_code code;
  std::filesystem::remove_all(temporary_, code);  // left by a killed process that had this pid
  std::filesystem::create_directory(temporary_, code);
  require<DataError>(!code, "{}: cannot write: {}", path_.string(), code.message());
}

AtomicFolder::~AtomicFolder() {
  std::error_code ignored;
  if (!committed_)
    std::filesystem::remove_all(temporary_, ignored);
}

void AtomicFolder::commit() {
  const std::filesystem::path old = beside(path_, "old");
  std::error_code code(sync_folder(temporary_), std::generic_category());
  require<DataError>(!code, "{}: cannot write: {}", path_.string(), code.message());
  const bool replaces = std::filesystem::exists(path_, code);
  if (replaces)
    std::filesystem::rename(path_, old, code);
  require<DataError>(!code, "{}: cannot replace: {}", path_.string(), code.message());
  std::filesystem::rename(temporary_, path_, code);
  if (code) {
    std::error_code ignored;
    if (replaces)
      std::filesystem::rename(old, path_, ignored);
    throw DataError(fmt::format("{}: cannot write: {}", path_.string(), code.message()));
  }
  committed_ = true;
  code.assign(sync_folder(path_.has_parent_path() ? path_.parent_path() : "."),
              std::generic_category());
  require<DataError>(!code, "{}: written, but may not survive a power cut: {}", path_.string(),
                     code.message());
  if (replaces)
    std::filesystem::remove_all(old, code);
}

}  // namespace hew
