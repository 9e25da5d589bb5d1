#include "io/seal.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <string>
#include <string_view>

#include "core/error.h"
#include "io/sha256.h"

namespace hew {
namespace {

constexpr std::string_view kMagic = "hew-h5 ";
constexpr int kContainerVersion = 1;
constexpr std::string_view kHdf5Signature = "\x89HDF\r\n\x1a\n";

std::string header_of(std::string_view sha256, std::int64_t length) {
  std::string text =
      fmt::format("{}{}\nsha256 {}\nlength {}\n", kMagic, kContainerVersion, sha256, length);
  text.resize(static_cast<std::size_t>(kSealBytes), '\0');
  return text;
}

std::string read_start(const FileDescriptor& file, const std::filesystem::path& path,
                       std::int64_t size) {
  std::string start(static_cast<std::size_t>(std::min(size, kSealBytes)), '\0');
  read_at(file, path, 0, std::as_writable_bytes(std::span(start)));
  return start;
}

// The text after `label` on the line that `text` starts with; moves `text` past it.
std::optional<std::string_view> take_line(std::string_view& text, std::string_view label) {
  const std::size_t end = text.find('\n');
  if (!text.starts_with(label) || end == std::string_view::npos)
    return std::nullopt;
  const std::string_view value = text.substr(label.size(), end - label.size());
  text.remove_prefix(end + 1);
  return value;
}

std::optional<std::int64_t> parse_integer(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc() || end != text.data() + text.size())
    return std::nullopt;
  return value;
}

struct Seal {
  std::string sha256;
  std::int64_t length = 0;
};

Seal parse_header(const std::string& start, const std::string& name) {
  std::string_view rest = start;
  require<DataError>(!rest.empty(), "{}: truncated, the file is empty", name);
  require<DataError>(!rest.starts_with(kHdf5Signature),
                     "{}: not a sealed hew file but plain HDF5 (without hash and length)", name);
  require<DataError>(rest.starts_with(kMagic.substr(0, rest.size())),
                     "{}: not a sealed hew file (it does not start with '{}')", name, kMagic);
  require<DataError>(std::ssize(start) == kSealBytes,
                     "{}: truncated, {} bytes are too few for the header", name, start.size());
  const auto version = parse_integer(take_line(rest, kMagic).value_or(""));
  require<DataError>(version.has_value(), "{}: damaged, the header is not readable", name);
  require<DataError>(*version <= kContainerVersion,
                     "{}: written by a newer hew (container version {}, this one reads up to {})",
                     name, *version, kContainerVersion);
  const auto sha256 = take_line(rest, "sha256 ");
  const auto length = parse_integer(take_line(rest, "length ").value_or(""));
  // Rendering it again also catches a changed byte in the padding.
  const bool intact = sha256 && length && header_of(*sha256, *length) == start;
  require<DataError>(intact, "{}: damaged, the header is not readable", name);
  return {.sha256 = std::string(*sha256), .length = *length};
}

}  // namespace

void seal(AtomicFile& file) {
  const FileDescriptor payload = open_to_read(file.temporary());
  const std::int64_t size = size_of_file(payload, file.temporary());
  const std::string header = header_of(sha256_hex_of_file(file.temporary(), kSealBytes), size);
  file.write_at(0, std::as_bytes(std::span(header)));
}

void verify_seal(const std::filesystem::path& path) {
  const FileDescriptor file = open_to_read(path);
  const std::string name = path.string();
  const std::int64_t size = size_of_file(file, path);
  const Seal wanted = parse_header(read_start(file, path, size), name);
  require<DataError>(size >= wanted.length, "{}: truncated, {} of {} bytes are there", name, size,
                     wanted.length);
  require<DataError>(size == wanted.length, "{}: damaged, {} bytes where {} were sealed", name,
                     size, wanted.length);
  require<DataError>(sha256_hex_of_file(path, kSealBytes) == wanted.sha256,
                     "{}: damaged, its content does not match its SHA-256", name);
}

}  // namespace hew
