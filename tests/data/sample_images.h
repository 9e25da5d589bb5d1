#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace hew::test {

/// An IDX file of bytes; `extents` are what its header says.
std::string idx_bytes(const std::vector<std::uint32_t>& extents, const std::string& values);
/// The bytes gzipped.
std::string gzipped(const std::string& bytes);
/// `count` images height x width whose pixel p of image i is (7 i + p) mod 251, label i mod 10:
/// train-images-idx3-ubyte and its labels in `folder`. Returns the path of the images.
std::string write_idx_pair(const std::filesystem::path& folder, std::uint32_t count,
                           std::uint32_t height, std::uint32_t width);
/// A PNG file as its specification puts it together, without libpng.
struct PngSample {
  int width = 0;
  int height = 0;
  int bits = 8;
  int colour = 2;         // 0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGB and alpha
  std::string rows = {};  // packed as in the file, without the bytes of filters
  std::string palette = {};
  std::string transparency = {};  // tRNS
  bool interlaced = false;        // Adam7; whole bytes a pixel alone
};
std::string png_bytes(const PngSample& sample);
/// RGB of one colour.
std::string png_of_colour(int width, int height, int red, int green, int blue);

/// Where Debian's dataset-fashion-mnist has this file; empty, with a message, where it is missing.
std::string fashion_mnist(const std::string& file);

}  // namespace hew::test
