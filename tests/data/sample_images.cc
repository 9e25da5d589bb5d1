#include "tests/data/sample_images.h"

#include <doctest/doctest.h>
#include <zlib.h>

#include "tests/io/scratch.h"

namespace hew::test {

namespace {

std::string compressed(const std::string& bytes, int window_bits) {
  z_stream stream{};
  deflateInit2(&stream, Z_BEST_SPEED, Z_DEFLATED, window_bits, 8, Z_DEFAULT_STRATEGY);
  std::string input = bytes;
  std::string out(deflateBound(&stream, input.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(input.data());
  stream.avail_in = static_cast<uInt>(input.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  const int code = deflate(&stream, Z_FINISH);
  out.resize(out.size() - stream.avail_out);
  deflateEnd(&stream);
  REQUIRE(code == Z_STREAM_END);
  return out;
}

std::string big_endian(std::uint32_t value) {
  std::string bytes;
  for (const unsigned shift : {24U, 16U, 8U, 0U}) {
    bytes += static_cast<char>((value >> shift) & 0xffU);
  }
  return bytes;
}

std::string png_chunk(const std::string& name, const std::string& content) {
  const std::string body = name + content;
  const auto crc =
      crc32(0, reinterpret_cast<const Bytef*>(body.data()), static_cast<uInt>(body.size()));
  return big_endian(static_cast<std::uint32_t>(content.size())) + body +
         big_endian(static_cast<std::uint32_t>(crc));
}

/// Every row with the byte of filter 0 in front.
std::string filtered(const std::string& rows, std::size_t row_bytes) {
  std::string out;
  for (std::size_t at = 0; at < rows.size(); at += row_bytes) {
    out += '\0';
    out += rows.substr(at, row_bytes);
  }
  return out;
}

std::string adam7(const PngSample& sample, std::size_t pixel_bytes) {
  struct Pass {
    int x, y, step_x, step_y;
  };
  std::string out;
  for (const Pass& pass : {Pass{0, 0, 8, 8},
                           {4, 0, 8, 8},
                           {0, 4, 4, 8},
                           {2, 0, 4, 4},
                           {0, 2, 2, 4},
                           {1, 0, 2, 2},
                           {0, 1, 1, 2}}) {
    for (int y = pass.y; y < sample.height; y += pass.step_y) {
      std::string row;
      for (int x = pass.x; x < sample.width; x += pass.step_x) {
        row += sample.rows.substr(static_cast<std::size_t>(y * sample.width + x) * pixel_bytes,
                                  pixel_bytes);
      }
      if (!row.empty())
        out += '\0' + row;
    }
  }
  return out;
}

}  // namespace

std::string idx_bytes(const std::vector<std::uint32_t>& extents, const std::string& values) {
  std::string bytes = {0, 0, 8, static_cast<char>(extents.size())};
  for (const std::uint32_t extent : extents) {
    bytes += big_endian(extent);
  }
  return bytes + values;
}

std::string gzipped(const std::string& bytes) {
  return compressed(bytes, 15 + 16);
}

std::string png_bytes(const PngSample& sample) {
  const std::size_t row_bytes = sample.rows.size() / static_cast<std::size_t>(sample.height);
  const std::size_t pixel_bytes = row_bytes / static_cast<std::size_t>(sample.width);
  std::string header = big_endian(static_cast<std::uint32_t>(sample.width)) +
                       big_endian(static_cast<std::uint32_t>(sample.height));
  header += static_cast<char>(sample.bits);
  header += static_cast<char>(sample.colour);
  header += std::string(2, '\0');
  header += static_cast<char>(sample.interlaced ? 1 : 0);
  std::string bytes = "\x89PNG\r\n\x1a\n" + png_chunk("IHDR", header);
  if (!sample.palette.empty())
    bytes += png_chunk("PLTE", sample.palette);
  if (!sample.transparency.empty())
    bytes += png_chunk("tRNS", sample.transparency);
  const std::string data =
      sample.interlaced ? adam7(sample, pixel_bytes) : filtered(sample.rows, row_bytes);
  return bytes + png_chunk("IDAT", compressed(data, 15)) + png_chunk("IEND", "");
}

std::string png_of_colour(int width, int height, int red, int green, int blue) {
  std::string rows;
  for (int i = 0; i < width * height; ++i) {
    for (const int value : {red, green, blue}) rows += static_cast<char>(value);
  }
  return png_bytes({.width = width, .height = height, .rows = rows});
}

std::string write_idx_pair(const std::filesystem::path& folder, std::uint32_t count,
                           std::uint32_t height, std::uint32_t width) {
  std::string pixels;
  std::string labels;
  for (std::uint32_t i = 0; i < count; ++i) {
    labels += static_cast<char>(i % 10);
    for (std::uint32_t p = 0; p < height * width; ++p) {
      pixels += static_cast<char>((7 * i + p) % 251);
    }
  }
  const std::string path = folder / "train-images-idx3-ubyte";
  write_bytes(path, idx_bytes({count, height, width}, pixels));
  write_bytes(folder / "train-labels-idx1-ubyte", idx_bytes({count}, labels));
  return path;
}

std::string fashion_mnist(const std::string& file) {
  const std::string path = "/usr/share/datasets/fashion-mnist/" + file;
  if (std::filesystem::exists(path))
    return path;
  MESSAGE("skipped: no " << path << "; apt-get install dataset-fashion-mnist brings it");
  return {};
}

}  // namespace hew::test
