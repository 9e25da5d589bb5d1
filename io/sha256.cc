#include "io/sha256.h"

#include <openssl/evp.h>

#include <array>
#include <vector>

#include "core/error.h"
#include "io/atomic_file.h"

namespace hew {
namespace {

constexpr std::int64_t kReadBytes = std::int64_t{1} << 20;

EVP_MD_CTX* context_of(const UniqueHandle<DigestTraits>& handle) {
  return static_cast<EVP_MD_CTX*>(handle.get());
}

void check(int status, const char* api) {
  if (status != 1)
    throw BackendError(api, status, "OpenSSL refused SHA-256");
}

}  // namespace

void DigestTraits::destroy(Value context) noexcept {
  EVP_MD_CTX_free(static_cast<EVP_MD_CTX*>(context));
}

Sha256::Sha256() : context_(EVP_MD_CTX_new()) {
  check(context_ ? 1 : 0, "EVP_MD_CTX_new");
  check(EVP_DigestInit_ex(context_of(context_), EVP_sha256(), nullptr), "EVP_DigestInit_ex");
}

void Sha256::update(std::span<const std::byte> bytes) {
  check(EVP_DigestUpdate(context_of(context_), bytes.data(), bytes.size()), "EVP_DigestUpdate");
}

std::string Sha256::hex() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int size = 0;
  check(EVP_DigestFinal_ex(context_of(context_), digest.data(), &size), "EVP_DigestFinal_ex");
  std::string text;
  for (unsigned int i = 0; i < size; ++i) text += fmt::format("{:02x}", digest[i]);
  return text;
}

std::string sha256_hex(std::span<const std::byte> bytes) {
  Sha256 digest;
  digest.update(bytes);
  return digest.hex();
}

std::string sha256_hex(std::string_view text) {
  return sha256_hex(std::as_bytes(std::span(text.data(), text.size())));
}

std::string sha256_hex_of_file(const std::filesystem::path& path, std::int64_t offset) {
  const FileDescriptor file = open_to_read(path);
  const std::int64_t size = size_of_file(file, path);
  Sha256 digest;
  std::vector<std::byte> buffer(static_cast<std::size_t>(kReadBytes));
  while (offset < size) {
    const std::int64_t count = std::min(kReadBytes, size - offset);
    const auto part = std::span(buffer).first(static_cast<std::size_t>(count));
    read_at(file, path, offset, part);
    digest.update(part);
    offset += count;
  }
  return digest.hex();
}

}  // namespace hew
