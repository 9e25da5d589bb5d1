#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

#include "core/handle.h"

namespace hew {

struct DigestTraits {
  using Value = void*;  // EVP_MD_CTX*
  static Value null() { return nullptr; }
  static void destroy(Value context) noexcept;
};

/// SHA-256 of a stream of bytes. Throws BackendError where OpenSSL refuses.
class Sha256 {
 public:
  Sha256();
  void update(std::span<const std::byte> bytes);
  /// 64 lower-case hex digits. Ends the stream: update() and hex() may not follow.
  std::string hex();

 private:
  UniqueHandle<DigestTraits> context_;
};

std::string sha256_hex(std::span<const std::byte> bytes);
std::string sha256_hex(std::string_view text);
/// Of bytes [offset, end of file). Throws DataError `<path>: <reason>`.
std::string sha256_hex_of_file(const std::filesystem::path& path, std::int64_t offset = 0);

}  // namespace hew
