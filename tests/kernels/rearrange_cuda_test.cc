#include <doctest/doctest.h>

#include <array>
#include <vector>

#include "kernels/permute.h"
#include "kernels/rotary.h"
#include "tests/support/compare.h"
#include "tests/support/gpu_input.h"

namespace hew {
namespace {

constexpr std::array kTypes{DType::kFloat32, DType::kFloat64, DType::kBFloat16};

}  // namespace

TEST_CASE("rotary on a GPU agrees with the CPU's in float64, far positions too") {
  const Stream& gpu = test::gpu_stream();
  const Stream cpu = make_cpu_stream();
  for (const DType dtype : kTypes) {
    // The angle is good to 1e-9 radians at a million; two products and a sum.
    const double absolute = 8 * test::epsilon(accumulator_of(dtype)) + 1e-8;
    for (const Shape& shape : {Shape{0, 3, 2, 8}, Shape{1, 1, 1, 2}, Shape{2, 3, 5, 14},
                               Shape{3, 7, 2, 16}, Shape{2, 129, 12, 64}, Shape{1, 33, 3, 128}}) {
      for (const std::int64_t offset : {0L, 5L, 999983L}) {
        for (const bool inverse : {false, true}) {
          CAPTURE(name_of(dtype));
          CAPTURE(to_string(shape));
          CAPTURE(offset);
          const auto x = test::gpu_input(shape, dtype, 1, /*shifted=*/offset == 5);
          Tensor y = test::poisoned(shape, dtype, gpu);
          Tensor wanted = Tensor::empty(shape, DType::kFloat64, cpu);
          kernels::rotary({.x = x.gpu, .offset = offset, .inverse = inverse, .y = y}, gpu);
          kernels::rotary({.x = x.wide, .offset = offset, .inverse = inverse, .y = wanted}, cpu);
          HEW_CHECK_CLOSE(y, wanted, test::epsilon(dtype), absolute);
          Tensor over = x.gpu.clone();
          kernels::rotary({.x = over, .offset = offset, .inverse = inverse, .y = over}, gpu);
          HEW_CHECK_CLOSE(over, wanted, test::epsilon(dtype), absolute);
        }
      }
    }
  }
}

TEST_CASE("permute on a GPU moves what the CPU's moves") {
  struct Case {
    Shape shape;
    std::vector<int> axes;
  };
  const std::vector<Case> cases{{{1}, {0}},
                                {{5, 0}, {1, 0}},
                                {{1, 1, 1}, {2, 0, 1}},
                                {{7, 13}, {1, 0}},
                                {{7, 13}, {0, 1}},
                                {{64, 96}, {1, 0}},
                                {{257, 1031}, {1, 0}},
                                {{2, 33, 4, 64}, {0, 2, 1, 3}},
                                {{2, 33, 4, 7}, {0, 2, 1, 3}},
                                {{2, 9, 3, 40}, {0, 2, 3, 1}},
                                {{3, 5, 2, 41}, {3, 2, 1, 0}},
                                {{3, 1, 2, 41, 1}, {3, 4, 2, 1, 0}},
                                {{2, 3, 4, 5, 6, 7}, {5, 3, 1, 0, 2, 4}},
                                {{2, 3, 4, 5, 6, 8}, {4, 3, 1, 0, 2, 5}}};
  const Stream& gpu = test::gpu_stream();
  const Stream cpu = make_cpu_stream();
  for (const DType dtype : kTypes) {
    for (const auto& [shape, axes] : cases) {
      for (const bool misaligned : {false, true}) {
        CAPTURE(name_of(dtype));
        CAPTURE(to_string(shape));
        CAPTURE(misaligned);
        const auto x = test::gpu_input(shape, dtype, 1, misaligned);
        const Shape turned = kernels::permuted(shape, axes);
        Tensor y = test::poisoned(turned, dtype, gpu);
        Tensor wanted = Tensor::empty(turned, DType::kFloat64, cpu);
        kernels::permute(x.gpu, axes, y, gpu);
        kernels::permute(x.wide, axes, wanted, cpu);
        CHECK(test::same_bytes(y, test::rounded(wanted, dtype)));
      }
    }
  }
}

TEST_CASE("copy_columns on a GPU moves what the CPU's moves") {
  struct Case {
    std::int64_t rows;
    std::int64_t from_width;
    std::int64_t to_width;
    std::int64_t from_begin;
    std::int64_t to_begin;
    std::int64_t count;
  };
  constexpr std::array kCases{Case{0, 8, 8, 0, 0, 8},
                              Case{1, 1, 1, 0, 0, 1},
                              Case{5, 7, 11, 2, 3, 5},
                              Case{33, 96, 64, 32, 16, 48},
                              Case{33, 96, 64, 33, 16, 47},
                              Case{129, 2304, 768, 768, 0, 768},
                              Case{129, 768, 2304, 0, 1536, 768},
                              Case{4, 8, 8, 3, 3, 0}};
  const Stream& gpu = test::gpu_stream();
  const Stream cpu = make_cpu_stream();
  for (const DType dtype : kTypes) {
    for (const Case& c : kCases) {
      CAPTURE(name_of(dtype));
      CAPTURE(c.rows);
      CAPTURE(c.count);
      const auto from = test::gpu_input({c.rows, c.from_width}, dtype, 1);
      auto to = test::gpu_input({c.rows, c.to_width}, dtype, 2);
      const auto copy = [&](const Tensor& source, Tensor& target, const Stream& stream) {
        kernels::copy_columns({.from = source,
                               .to = target,
                               .from_begin = c.from_begin,
                               .to_begin = c.to_begin,
                               .count = c.count},
                              stream);
      };
      copy(from.gpu, to.gpu, gpu);
      copy(from.wide, to.wide, cpu);
      CHECK(test::same_bytes(to.gpu, test::rounded(to.wide, dtype)));
    }
  }
}

}  // namespace hew
