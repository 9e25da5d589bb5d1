#include "data/image_probe.h"

#include <algorithm>
#include <array>

#include "core/error.h"
#include "data/image_codec.h"
#include "io/atomic_file.h"

namespace hew {
namespace {

/// A file and how to read big-endian numbers from it.
struct Probe {
  FileDescriptor file;
  const std::string& path;
  std::int64_t size = 0;

  std::vector<std::uint8_t> bytes(std::int64_t offset, std::int64_t count) const {
    require<DataError>(count >= 0 && offset + count <= size,
                       "{}: truncated, it ends after {} bytes", path, size);
    std::vector<std::uint8_t> out(static_cast<std::size_t>(count));
    read_at(file, path, offset, std::as_writable_bytes(std::span(out)));
    return out;
  }
};

std::int64_t number(std::span<const std::uint8_t> bytes) {
  std::int64_t value = 0;
  for (const std::uint8_t byte : bytes) value = value * 256 + byte;
  return value;
}

ImageShape probe_png(const Probe& probe) {
  constexpr std::int64_t kSignature = 8;
  constexpr std::int64_t kAroundData = 12;  // length, name and checksum of a chunk
  const auto header = probe.bytes(0, 26);
  const auto field = [&](std::size_t at, std::size_t count) {
    return number(std::span(header).subspan(at, count));
  };
  constexpr std::uint8_t kColour = 2;
  const ImageShape shape{(header[25] & kColour) != 0 ? 3 : 1, field(20, 4), field(16, 4)};
  for (std::int64_t at = kSignature;;) {
    const auto chunk = probe.bytes(at, 8);
    at += kAroundData + number(std::span(chunk).first(4));
    require<DataError>(at <= probe.size, "{}: truncated, it ends after {} bytes", probe.path,
                       probe.size);
    constexpr std::array<std::uint8_t, 4> kEnd = {'I', 'E', 'N', 'D'};
    if (std::equal(kEnd.begin(), kEnd.end(), chunk.begin() + 4))
      return shape;
  }
}

/// Whether the mark of the end is in [begin, end). Compressed data never look like it.
bool has_jpeg_end(const Probe& probe, std::int64_t begin, std::int64_t end) {
  constexpr std::array<std::uint8_t, 2> kEnd = {0xff, 0xd9};
  const auto bytes = probe.bytes(begin, end - begin);
  return std::search(bytes.begin(), bytes.end(), kEnd.begin(), kEnd.end()) != bytes.end();
}

ImageShape probe_jpeg(const Probe& probe) {
  ImageShape shape;
  for (std::int64_t at = 2;;) {
    const auto head = probe.bytes(at, 4);
    require<DataError>(head[0] == 0xff, "{}: damaged JPEG: no marker at byte {}", probe.path, at);
    const std::uint8_t marker = head[1];
    if (marker == 0xff) {  // a byte of filling
      ++at;
      continue;
    }
    const bool is_frame =
        marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc;
    if (is_frame) {
      const auto frame = probe.bytes(at + 5, 5);
      shape = {frame[4] == 1 ? 1 : 3, number(std::span(frame).first(2)),
               number(std::span(frame).subspan(2, 2))};
    }
    at += 2 + number(std::span(head).subspan(2));
    constexpr std::uint8_t kScan = 0xda;
    if (marker == kScan) {
      constexpr std::int64_t kTail = 4096;
      require<DataError>(has_jpeg_end(probe, std::max(at, probe.size - kTail), probe.size) ||
                             has_jpeg_end(probe, at, probe.size),
                         "{}: truncated, it lacks its end", probe.path);
      return shape;
    }
  }
}

}  // namespace

ImageShape probe_image_file(const std::string& path) {
  Probe probe{open_to_read(path), path};
  probe.size = size_of_file(probe.file, path);
  require<DataError>(probe.size > 0, "{}: empty", path);
  const ImageFormat format = image_format(probe.bytes(0, std::min<std::int64_t>(4, probe.size)));
  require<DataError>(format != ImageFormat::kOther, "{}: neither PNG nor JPEG", path);
  const ImageShape shape = format == ImageFormat::kPng ? probe_png(probe) : probe_jpeg(probe);
  check_pixels(shape.height, shape.width, path);
  return shape;
}

}  // namespace hew
