#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "data/image_set.h"

namespace hew {

enum class ImageFormat : std::uint8_t { kOther, kPng, kJpeg };

/// By the first bytes of a file, of which four are enough.
ImageFormat image_format(std::span<const std::uint8_t> first);

/// The pixels of a PNG or JPEG file, told apart by its first bytes. Grey stays grey, all else
/// becomes RGB: palettes and CMYK are converted, transparency is left out, 16 bits are rounded
/// to 8. Colour profiles, gamma and EXIF are not looked at. Throws DataError `<name>: <reason>`,
/// also for data that the libraries would only warn of: pixels must not be made up. Throws
/// BackendError where this build lacks the format's library.
DecodedImage decode_image(std::span<const std::uint8_t> bytes, const std::string& name);

/// The same of a file, by its path.
DecodedImage read_image_file(const std::string& path);

/// Throws DataError for more pixels than any picture has; `name` is the file's.
void check_pixels(std::int64_t height, std::int64_t width, const std::string& name);

/// One of two files is compiled for each format: `png_codec.cc` or `png_codec_stub.cc`,
/// `jpeg_codec.cc` or `jpeg_codec_stub.cc`.
DecodedImage decode_png(std::span<const std::uint8_t> bytes, const std::string& name);
DecodedImage decode_jpeg(std::span<const std::uint8_t> bytes, const std::string& name);
/// A PNG file of grey or RGB. Throws BackendError where this build lacks libpng.
std::vector<std::uint8_t> encode_png(const DecodedImage& image);
/// A baseline JPEG file; quality 1 to 100, colour at half the resolution below 90.
std::vector<std::uint8_t> encode_jpeg(const DecodedImage& image, int quality);

}  // namespace hew
