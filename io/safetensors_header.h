#pragma once

// The header of a safetensors file as text; nothing outside io/ includes this.

#include <map>
#include <string>
#include <string_view>

#include "io/safetensors.h"

namespace hew {

/// Bytes of the little-endian length in front of the header.
inline constexpr std::int64_t kSafetensorsLengthBytes = 8;

/// What the header says; extents count from the first byte after it.
struct SafetensorsHeader {
  std::map<std::string, TensorExtent> tensors;
  SafetensorsMetadata metadata;
};

/// Places the tensors one after another, widest dtype first, so that each is aligned.
SafetensorsHeader lay_out(std::span<const TensorSpec> tensors, const SafetensorsMetadata& metadata,
                          const std::string& file);

/// JSON padded with spaces to a multiple of 8 bytes.
std::string render(const SafetensorsHeader& header, const std::string& file);

/// Inverse of render(), for a file with `data_bytes` after the header. Throws DataError naming
/// `file` and the tensor.
SafetensorsHeader parse_safetensors_header(std::string_view text, std::int64_t data_bytes,
                                           const std::string& file);

}  // namespace hew
