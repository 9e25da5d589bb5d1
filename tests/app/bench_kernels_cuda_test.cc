#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "app/bench_kernels.h"
#include "tests/support/sizes.h"

namespace hew {
namespace {

std::vector<std::string> lines_of(const BenchKernelsOptions& options) {
  std::vector<std::string> lines;
  bench_kernels(options, [&](const std::string& line) { lines.push_back(line); });
  return lines;
}

// The number in front of " ms".
double milliseconds(const std::string& line) {
  const std::size_t end = line.find(" ms ");
  REQUIRE_MESSAGE(end != std::string::npos, line);
  const std::size_t begin = line.rfind(' ', end - 1) + 1;
  return std::stod(line.substr(begin, end - begin));
}

}  // namespace

TEST_CASE("bench kernels runs all kernels and prints a line for each") {
  if (test::small_sizes())
    return;  // all of a library's products are tried
  for (const char* dtype : {"bf16", "tf32", "fp32"}) {
    const std::vector<std::string> lines =
        lines_of({.dtype = dtype, .repeat = 1, .scale = 1.0 / 4096});
    REQUIRE(lines.size() == 2 + 103);  // in front: the device, and the copy
    CHECK(lines[1].starts_with("copy "));
    for (std::size_t i = 1; i < lines.size(); ++i) {
      CHECK_MESSAGE(std::isfinite(milliseconds(lines[i])), lines[i]);
    }
    CHECK(std::any_of(lines.begin(), lines.end(), [](const std::string& line) {
      return line.starts_with("attention forward+backward D=64 T=1024 B=1 H=12 ");
    }));
  }
}

TEST_CASE("bench kernels --only runs one group") {
  const std::vector<std::string> lines =
      lines_of({.only = {"rotary"}, .repeat = 2, .scale = 1.0 / 256});
  REQUIRE(lines.size() == 2 + 2);
  CHECK(lines[2].starts_with("rotary D=64"));
}

}  // namespace hew
