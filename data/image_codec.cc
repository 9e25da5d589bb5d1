#include "data/image_codec.h"

#include <algorithm>
#include <array>

#include "core/error.h"
#include "io/atomic_file.h"

namespace hew {

ImageFormat image_format(std::span<const std::uint8_t> first) {
  constexpr std::array<std::uint8_t, 4> kPng = {0x89, 'P', 'N', 'G'};
  constexpr std::array<std::uint8_t, 3> kJpeg = {0xff, 0xd8, 0xff};
  const auto begins_with = [&](std::span<const std::uint8_t> magic) {
    return first.size() >= magic.size() && std::equal(magic.begin(), magic.end(), first.begin());
  };
  return begins_with(kPng)    ? ImageFormat::kPng
         : begins_with(kJpeg) ? ImageFormat::kJpeg
                              : ImageFormat::kOther;
}

void check_pixels(std::int64_t height, std::int64_t width, const std::string& name) {
  constexpr std::int64_t kMost = std::int64_t{1} << 28U;
  require<DataError>(height > 0 && width > 0 && height <= kMost / width,
                     "{}: {} x {} pixels, expected 1 to {}", name, height, width, kMost);
}

DecodedImage decode_image(std::span<const std::uint8_t> bytes, const std::string& name) {
  require<DataError>(!bytes.empty(), "{}: empty", name);
  switch (image_format(bytes)) {
    case ImageFormat::kPng:
      return decode_png(bytes, name);
    case ImageFormat::kJpeg:
      return decode_jpeg(bytes, name);
    case ImageFormat::kOther:
      break;
  }
  throw DataError(fmt::format("{}: neither PNG nor JPEG", name));
}

DecodedImage read_image_file(const std::string& path) {
  return decode_image(read_all(path), path);
}

}  // namespace hew
