#include <doctest/doctest.h>

#include <algorithm>

#include "tests/kernels/bsr_case.h"

namespace hew::test {
namespace {

// Whether the GPU's products agree with the CPU's, by bounds as in bsr_cuda_test.
struct Agreement {
  bool forward = false;
  bool input_gradient = false;
  bool weight_gradient = false;

  bool all() const { return forward && input_gradient && weight_gradient; }
  bool any() const { return forward || input_gradient || weight_gradient; }
};

Agreement compare_products(const Case& c) {
  const double u = unit_roundoff(c.dtype);
  const Tensor y = forward(c, Activation::kNone, /*aligned=*/true).y;
  const Tensor dx = input_gradient(c, Activation::kNone, /*aligned=*/true).dx;
  const Tensor dvalues = weight_gradient(c, /*aligned=*/true);
  return {
      .forward =
          compare(on_cpu(y), cpu_forward(c, Activation::kNone).y, u, c.tolerance(c.pattern.cols))
              .ok,
      .input_gradient =
          compare(on_cpu(dx), cpu_input_gradient(c), u, c.tolerance(c.pattern.rows)).ok,
      .weight_gradient =
          compare(on_cpu(dvalues), cpu_weight_gradient(c), 0, c.tolerance(c.x.wide.size(0))).ok};
}

// One entry of the index is another: a live block lies one block column further on, where none did.
BlockPattern with_moved_block(const BlockPattern& pattern) {
  std::size_t moved = 0;  // the last of a row that does not end at the edge
  for (std::size_t r = 0; r + 1 < pattern.crow.size(); ++r) {
    const auto end = static_cast<std::size_t>(pattern.crow[r + 1]);
    if (pattern.crow[r] < pattern.crow[r + 1] &&
        (pattern.col[end - 1] + 1) * pattern.block < pattern.cols)
      moved = end - 1;
  }
  return make_pattern(pattern.rows, pattern.cols, pattern.block,
                      [&](std::int64_t row, std::int64_t col) {
                        const auto r = static_cast<std::size_t>(row);
                        for (auto p = static_cast<std::size_t>(pattern.crow[r]);
                             p < static_cast<std::size_t>(pattern.crow[r + 1]); ++p) {
                          if (pattern.col[p] + (p == moved ? 1 : 0) == col)
                            return true;
                        }
                        return false;
                      });
}

}  // namespace

TEST_CASE("one wrong block, or one wrong entry of the index, is found in products on a GPU") {
  for (const Type& type : kTypes) {
    CAPTURE(type.name());
    for (const std::int64_t b : {16, 24, 32, 64, 128}) {
      CAPTURE(b);
      const BlockPattern pattern = random_pattern(8 * b, 12 * b, b, 0.3, 8);
      const Case good(pattern, 200, type);
      CHECK(compare_products(good).all());

      Case block = good;
      Tensor values = block.values.wide.clone();
      const std::int64_t first = values.numel() / pattern.nnzb() * (pattern.nnzb() / 2);
      for (std::int64_t i = first; i < first + b * b; ++i) values.data<double>()[i] *= 1.25;
      block.values = gpu_input(values, type.dtype);
      block.values.wide = good.values.wide;
      const Agreement wrong_block = compare_products(block);
      CHECK_FALSE(wrong_block.forward);
      CHECK_FALSE(wrong_block.input_gradient);
      CHECK(wrong_block.weight_gradient);  // which does not read it

      Case entry = good;
      const BlockPattern moved = with_moved_block(pattern);
      REQUIRE(moved.nnzb() == pattern.nnzb());
      REQUIRE(moved.col != pattern.col);
      entry.uploaded = UploadedPattern(moved, gpu_stream());
      CHECK_FALSE(compare_products(entry).any());
    }
  }
}

}  // namespace hew::test
