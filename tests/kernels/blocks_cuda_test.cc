#include "kernels/blocks.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>

#include "tests/support/block_pattern.h"
#include "tests/support/compare.h"
#include "tests/support/gpu_input.h"
#include "tests/support/sizes.h"

namespace hew {
namespace {

constexpr std::array kTypes{DType::kFloat32, DType::kFloat64, DType::kBFloat16};

struct Grid {
  std::int64_t n, k, b;
};

// One element; ragged both ways; whole, for 16-byte accesses; one block wider than the matrix;
// blocks of one lane's share and of many; rows that a 16-byte access does not divide.
constexpr std::array<Grid, 9> kGrids{{{1, 1, 8},
                                      {37, 43, 8},
                                      {64, 96, 32},
                                      {5, 130, 64},
                                      {264, 136, 8},
                                      {200, 320, 24},
                                      {385, 392, 128},
                                      {257, 131, 128},
                                      {1024, 2048, 16}}};

// Fewer block rows, the last one with one row of the matrix.
Grid cut(const Grid& g) {
  return {test::cut(g.n, std::max(g.b, 160'000 / g.k / g.b * g.b + 1)), g.k, g.b};
}

Shape grid_shape(const Grid& g) {
  return {(g.n + g.b - 1) / g.b, (g.k + g.b - 1) / g.b};
}

// A sum of b² terms in float64.
double sum_tolerance(const Grid& g) {
  return static_cast<double>(g.b * g.b) * 0x1p-53;
}

}  // namespace

TEST_CASE("block norms on a GPU agree with the CPU's, and are the same wherever a block lies") {
  const Stream& gpu = test::gpu_stream();
  const Stream cpu = make_cpu_stream();
  for (const DType dtype : kTypes) {
    for (const Grid& whole : kGrids) {
      const Grid g = cut(whole);
      CAPTURE(name_of(dtype));
      CAPTURE(g.n);
      CAPTURE(g.b);
      const test::BlockPattern pattern = test::random_pattern(g.n, g.k, g.b, 1, 3);
      const test::UploadedPattern uploaded(pattern, gpu);
      const test::GpuInput dense = test::gpu_input({g.n, g.k}, dtype, 1);
      Tensor wanted = Tensor::empty(grid_shape(g), DType::kFloat64, cpu);
      kernels::block_norms(dense.wide, g.b, wanted, cpu);
      Tensor norms = test::poisoned(grid_shape(g), DType::kFloat64, gpu);
      kernels::block_norms(dense.gpu, g.b, norms, gpu);
      HEW_CHECK_CLOSE(test::on_cpu(norms), wanted, sum_tolerance(g));

      Tensor moved = test::poisoned(grid_shape(g), DType::kFloat64, gpu);
      kernels::block_norms(test::misaligned(dense.gpu), g.b, moved, gpu);
      CHECK(test::same_bytes(test::on_cpu(moved), test::on_cpu(norms)));
      Tensor values = test::poisoned(pattern.values_shape(), dtype, gpu);
      kernels::gather_blocks(dense.gpu, uploaded.index(), values, gpu);
      Tensor live = test::poisoned({pattern.nnzb()}, DType::kFloat64, gpu);
      kernels::live_block_norms(values, uploaded.index(), live, gpu);
      CHECK(test::same_bytes(test::on_cpu(live.reshape(norms.shape())), test::on_cpu(norms)));
    }
  }
}

TEST_CASE("block dots on a GPU agree with the CPU's") {
  const Stream& gpu = test::gpu_stream();
  const Stream cpu = make_cpu_stream();
  for (const DType dtype : kTypes) {
    for (const Grid& whole : kGrids) {
      const Grid g = cut(whole);
      CAPTURE(name_of(dtype));
      CAPTURE(g.n);
      CAPTURE(g.b);
      const DType sums = accumulator_of(dtype);
      const test::GpuInput grad = test::gpu_input({g.n, g.k}, sums, 1);
      const test::GpuInput w = test::gpu_input({g.n, g.k}, dtype, 2);
      Tensor wanted = Tensor::empty(grid_shape(g), DType::kFloat64, cpu);
      kernels::block_dot(grad.wide, w.wide, g.b, wanted, cpu);
      // One rounding of the result beside the sum's own error, whose terms stay below 5².
      const double relative = sums == DType::kFloat64 ? 0x1p-53 : 0x1p-24;
      const double absolute = 25 * static_cast<double>(g.b * g.b) * sum_tolerance(g);
      Tensor dots = test::poisoned(grid_shape(g), sums, gpu);
      kernels::block_dot(grad.gpu, w.gpu, g.b, dots, gpu);
      HEW_CHECK_CLOSE(test::on_cpu(dots), wanted, relative, absolute);
      Tensor again = test::poisoned(grid_shape(g), sums, gpu);
      kernels::block_dot(test::misaligned(grad.gpu), test::misaligned(w.gpu), g.b, again, gpu);
      CHECK(test::same_bytes(test::on_cpu(again), test::on_cpu(dots)));
    }
  }
}

TEST_CASE("blocks gather, add up and scatter on a GPU as on the CPU") {
  const Stream& gpu = test::gpu_stream();
  const Stream cpu = make_cpu_stream();
  for (const DType dtype : kTypes) {
    for (const Grid& whole : kGrids) {
      const Grid g = cut(whole);
      for (const double density : {0.0, 0.3, 1.0}) {
        CAPTURE(name_of(dtype));
        CAPTURE(g.n);
        CAPTURE(g.b);
        CAPTURE(density);
        const test::BlockPattern pattern = test::random_pattern(g.n, g.k, g.b, density, 3);
        const test::UploadedPattern uploaded(pattern, gpu);
        const test::GpuInput dense = test::gpu_input({g.n, g.k}, dtype, 1);
        Tensor values = Tensor::empty(pattern.values_shape(), DType::kFloat64, cpu);
        kernels::gather_blocks(dense.wide, pattern.index(), values, cpu);
        const test::GpuInput other = test::gpu_input({g.n, g.k}, dtype, 2);
        Tensor sums = values.clone();
        kernels::accumulate_blocks(other.wide, pattern.index(), sums, cpu);
        Tensor back = Tensor::empty({g.n, g.k}, DType::kFloat64, cpu);
        kernels::scatter_blocks(values, pattern.index(), back, cpu);
        for (const bool aligned : {true, false}) {
          CAPTURE(aligned);
          const Tensor from = aligned ? dense.gpu : test::misaligned(dense.gpu);
          Tensor gathered = test::poisoned(pattern.values_shape(), dtype, gpu);
          kernels::gather_blocks(from, uploaded.index(), gathered, gpu);
          CHECK(test::same_bytes(test::rounded(test::on_cpu(gathered), DType::kFloat64), values));
          Tensor scattered = test::poisoned({g.n, g.k}, dtype, gpu);
          if (!aligned)
            scattered = test::misaligned(scattered);
          kernels::scatter_blocks(gathered, uploaded.index(), scattered, gpu);
          CHECK(test::same_bytes(test::rounded(test::on_cpu(scattered), DType::kFloat64), back));
          // One rounding of the sum of two values.
          kernels::accumulate_blocks(aligned ? other.gpu : test::misaligned(other.gpu),
                                     uploaded.index(), gathered, gpu);
          CHECK(test::same_bytes(test::on_cpu(gathered), test::rounded(sums, dtype)));
        }
      }
    }
  }
}

TEST_CASE("blocks move on a GPU and leave the others alone") {
  const Stream& gpu = test::gpu_stream();
  for (const DType dtype : kTypes) {
    for (const std::int64_t b : {1, 3, 8, 24, 128}) {
      CAPTURE(name_of(dtype));
      CAPTURE(b);
      const Tensor values = test::gpu_input({3, b, b}, dtype, 1).gpu;
      const Tensor held = test::gpu_input({5, b, b}, dtype, 2).gpu;
      const std::vector<std::int64_t> source{2, -1, 0, 2, -1};
      Tensor moved = held.clone();
      kernels::move_blocks(values, Tensor::from(source, {5}, gpu), moved, gpu);
      for (std::int64_t p = 0; p < 5; ++p) {
        const std::int64_t from = source[static_cast<std::size_t>(p)];
        CHECK(test::same_bytes(test::on_cpu(moved.rows(p, 1)),
                               test::on_cpu(from < 0 ? held.rows(p, 1) : values.rows(from, 1))));
      }
      Tensor none = Tensor::empty({0, b, b}, dtype, gpu);
      kernels::move_blocks(values, Tensor::zeros({0}, DType::kInt64, gpu), none, gpu);
    }
  }
}

}  // namespace hew
