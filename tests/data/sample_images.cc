#include "tests/data/sample_images.h"

#include <doctest/doctest.h>
#include <zlib.h>

#include "tests/io/scratch.h"

namespace hew::test {

std::string idx_bytes(const std::vector<std::uint32_t>& extents, const std::string& values) {
  std::string bytes = {0, 0, 8, static_cast<char>(extents.size())};
  for (const std::uint32_t extent : extents) {
    for (const unsigned shift : {24U, 16U, 8U, 0U}) {
      bytes += static_cast<char>((extent >> shift) & 0xffU);
    }
  }
  return bytes + values;
}

std::string gzipped(const std::string& bytes) {
  z_stream stream{};
  constexpr int kGzip = 15 + 16;
  deflateInit2(&stream, Z_BEST_SPEED, Z_DEFLATED, kGzip, 8, Z_DEFAULT_STRATEGY);
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
