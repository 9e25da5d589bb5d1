#include "data/image_codec.h"

#include <doctest/doctest.h>

// jpeglib.h needs std::size_t and FILE in front of it.
#include <cstddef>
#include <cstdio>
// clang-format off
#include <jpeglib.h>
// clang-format on

#include <cmath>
#include <cstdlib>

#include "core/error.h"
#include "tests/data/sample_images.h"
#include "tests/io/scratch.h"

namespace hew {
namespace {

using Bytes = std::vector<std::uint8_t>;
using test::png_bytes;

Bytes to_bytes(const std::string& text) {
  return {text.begin(), text.end()};
}

std::string to_text(const Bytes& bytes) {
  return {bytes.begin(), bytes.end()};
}

DecodedImage decode(const std::string& file) {
  return decode_image(to_bytes(file), "a file");
}

std::string error_of(const std::string& file) {
  return test::data_error_of([&] { decode(file); });
}

/// A smooth picture, which JPEG keeps well.
DecodedImage smooth(std::int64_t height, std::int64_t width, std::int64_t channels) {
  DecodedImage image{.pixels = {}, .height = height, .width = width, .channels = channels};
  for (std::int64_t y = 0; y < height; ++y) {
    for (std::int64_t x = 0; x < width; ++x) {
      for (std::int64_t c = 0; c < channels; ++c) {
        image.pixels.push_back(static_cast<std::uint8_t>(40 + 3 * x + 2 * y + 20 * c));
      }
    }
  }
  return image;
}

int largest_difference(const Bytes& a, const Bytes& b) {
  REQUIRE(a.size() == b.size());
  int largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(a[i] - b[i]));
  return largest;
}

/// A CMYK JPEG of one colour, 16 x 16; with Adobe's marker or without.
std::string cmyk_jpeg(const std::array<std::uint8_t, 4>& stored, bool adobe) {
  jpeg_compress_struct info{};
  jpeg_error_mgr errors{};
  info.err = jpeg_std_error(&errors);
  jpeg_create_compress(&info);
  std::uint8_t* out = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&info, &out, &size);
  info.image_height = info.image_width = 16;
  info.input_components = 4;
  info.in_color_space = JCS_CMYK;
  jpeg_set_defaults(&info);
  jpeg_set_quality(&info, 100, TRUE);
  info.write_Adobe_marker = adobe ? TRUE : FALSE;
  jpeg_start_compress(&info, TRUE);
  Bytes row;
  for (int x = 0; x < 16; ++x) row.insert(row.end(), stored.begin(), stored.end());
  for (int y = 0; y < 16; ++y) {
    JSAMPROW at = row.data();
    jpeg_write_scanlines(&info, &at, 1);
  }
  jpeg_finish_compress(&info);
  std::string bytes(reinterpret_cast<const char*>(out), size);
  jpeg_destroy_compress(&info);
  std::free(out);
  return bytes;
}

}  // namespace

TEST_CASE("PNG: grey of every depth") {
  // Three pixels 1, 0, 1 of the deepest grey.
  CHECK(
      decode(png_bytes({.width = 3, .height = 1, .bits = 1, .colour = 0, .rows = "\xa0"})).pixels ==
      Bytes{255, 0, 255});
  CHECK(
      decode(png_bytes({.width = 3, .height = 1, .bits = 2, .colour = 0, .rows = "\x78"})).pixels ==
      Bytes{85, 255, 170});
  CHECK(decode(png_bytes({.width = 3, .height = 1, .bits = 4, .colour = 0, .rows = "\x1f\x80"}))
            .pixels == Bytes{17, 255, 136});
  const DecodedImage byte =
      decode(png_bytes({.width = 1, .height = 3, .bits = 8, .colour = 0, .rows = "\x01\x7f\xff"}));
  CHECK(byte.pixels == Bytes{1, 127, 255});
  CHECK(byte.shape() == ImageShape{1, 3, 1});
  // 16 bits are divided by 257 and rounded: 0x01ff is 511.
  CHECK(decode(png_bytes({.width = 3,
                          .height = 1,
                          .bits = 16,
                          .colour = 0,
                          .rows = std::string("\x01\xff\x12\x34\xff\xff", 6)}))
            .pixels == Bytes{2, 18, 255});
}

TEST_CASE("PNG: colours, palettes, and transparency that is left out") {
  const std::string rgb = {1, 2, 3, 4, 5, 6};
  const DecodedImage plain = decode(png_bytes({.width = 2, .height = 1, .rows = rgb}));
  CHECK(plain.pixels == to_bytes(rgb));
  CHECK(plain.shape() == ImageShape{3, 1, 2});
  CHECK(decode(png_bytes({.width = 1, .height = 2, .colour = 6, .rows = {1, 2, 3, 0, 4, 5, 6, 9}}))
            .pixels == to_bytes(rgb));
  const DecodedImage grey =
      decode(png_bytes({.width = 2, .height = 1, .colour = 4, .rows = {7, 0, 8, 9}}));
  CHECK(grey.pixels == Bytes{7, 8});
  CHECK(grey.channels == 1);
  for (const std::string& transparency : {std::string(), std::string("\0\x80", 2)}) {
    const DecodedImage palette = decode(png_bytes({.width = 3,
                                                   .height = 1,
                                                   .bits = 2,
                                                   .colour = 3,
                                                   .rows = "\x10",  // 0, 1, 0
                                                   .palette = rgb,
                                                   .transparency = transparency}));
    CHECK(palette.pixels == Bytes{1, 2, 3, 4, 5, 6, 1, 2, 3});
  }
  CHECK(decode(png_bytes({.width = 1,
                          .height = 1,
                          .rows = {1, 2, 3},
                          .transparency = std::string("\0\1\0\2\0\3", 6)}))
            .pixels == Bytes{1, 2, 3});
}

TEST_CASE("a file is read by its path") {
  const test::Scratch scratch;
  const std::string path = scratch / "a.png";
  test::write_bytes(path, test::png_of_colour(2, 1, 7, 8, 9));
  CHECK(read_image_file(path).pixels == Bytes{7, 8, 9, 7, 8, 9});
  test::write_bytes(path, "");
  CHECK(test::data_error_of([&] { read_image_file(path); }) == path + ": empty");
}

TEST_CASE("PNG: interlaced files have the pixels of plain ones") {
  for (const auto& [width, height] : {std::pair{1, 1}, {5, 3}, {11, 13}}) {
    const DecodedImage image = smooth(height, width, 3);
    test::PngSample sample{.width = width, .height = height, .rows = to_text(image.pixels)};
    CHECK(decode(png_bytes(sample)).pixels == image.pixels);
    sample.interlaced = true;
    CHECK(decode(png_bytes(sample)).pixels == image.pixels);
  }
}

TEST_CASE("JPEG: grey and colour come back nearly as they were") {
  for (const std::int64_t channels : {1, 3}) {
    for (const auto& [height, width] : {std::pair{1, 1}, {7, 13}, {31, 40}}) {
      const DecodedImage image = smooth(height, width, channels);
      const DecodedImage back = decode(to_text(encode_jpeg(image, 100)));
      CHECK(back.shape() == image.shape());
      CHECK(largest_difference(back.pixels, image.pixels) <= 3);
    }
  }
  CHECK(encode_jpeg(smooth(31, 40, 3), 60).size() < encode_jpeg(smooth(31, 40, 3), 95).size());
}

TEST_CASE("JPEG: CMYK becomes RGB, whichever way ink is written") {
  // Cyan 20 %, magenta none, yellow 60 %, black 40 % of 255.
  const Bytes expected = {122, 153, 61};
  const auto check = [&](const std::string& file) {
    const DecodedImage image = decode(file);
    CHECK(image.shape() == ImageShape{3, 16, 16});
    Bytes all;
    for (int i = 0; i < 256; ++i) all.insert(all.end(), expected.begin(), expected.end());
    CHECK(largest_difference(image.pixels, all) <= 2);
  };
  check(cmyk_jpeg({51, 0, 153, 102}, /*adobe=*/false));
  check(cmyk_jpeg({204, 255, 102, 153}, /*adobe=*/true));
}

TEST_CASE("files cut off anywhere, or changed, are an error and never a picture") {
  const DecodedImage image = smooth(31, 40, 3);
  const std::string png = png_bytes({.width = 40, .height = 31, .rows = to_text(image.pixels)});
  const std::string jpeg = to_text(encode_jpeg(image, 95));
  for (const std::string& file : {png, jpeg}) {
    for (std::size_t size = 0; size < file.size(); size += size < 200 ? 1 : 37) {
      const std::string text = error_of(file.substr(0, size));
      CHECK_MESSAGE(text.starts_with("a file: "), size);
    }
  }
  std::string flipped = png;
  for (std::size_t at = 16; at < png.size() - 12; at += 5) {  // chunks have checksums
    flipped[at] = static_cast<char>(flipped[at] ^ 0x10);
    if (at < png.size() - 16)
      CHECK_MESSAGE(!error_of(flipped).empty(), at);
    flipped[at] = png[at];
  }
  CHECK(error_of("") == "a file: empty");
  CHECK(error_of("GIF89a") == "a file: neither PNG nor JPEG");
  CHECK(error_of(std::string("\xff\xd8\xff")).starts_with("a file: damaged JPEG: "));
  std::string huge = png_bytes({.width = 1, .height = 1, .rows = {1, 2, 3}});
  huge.replace(16, 8, std::string("\0\x7f\xff\xff\0\x7f\xff\xff", 8));
  CHECK(error_of(huge).starts_with("a file: "));
}

TEST_CASE("PNG files that hew writes come back pixel for pixel") {
  for (const std::int64_t channels : {1, 3}) {
    for (const auto& [height, width] : {std::pair(1, 1), std::pair(7, 13), std::pair(64, 101)}) {
      DecodedImage image{.pixels = {}, .height = height, .width = width, .channels = channels};
      for (std::int64_t i = 0; i < height * width * channels; ++i) {
        image.pixels.push_back(static_cast<std::uint8_t>(37 * i % 251));
      }
      const DecodedImage back = decode_image(encode_png(image), "a file");
      CHECK(back.shape() == image.shape());
      CHECK(back.pixels == image.pixels);
    }
  }
}

}  // namespace hew
