#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <span>

#include "kernels/bsr_route.h"
#include "tests/kernels/measured_layers.h"

/// The cost model of kernels/bsr_route.h against an H100 (docs/results/bsr-h100.md).

namespace hew::test {
namespace {

using kernels::BsrProblem;
using kernels::BsrProduct;
using kernels::BsrRoute;
using enum kernels::BsrProduct;

constexpr double kSparsities[] = {0.5, 0.8, 0.9, 0.95};
constexpr double kFoldingBytes = 3.0e12;  // a second: copies between blocks and matrix

// Milliseconds of the dense product, and how many times as fast our own kernels are at each of
// kSparsities.
struct Measured {
  BsrProduct product;
  Size size;
  std::int64_t block;
  double dense;
  double speedup[4];
};

// clang-format off
constexpr Measured kBFloat16[] = {
    {kForward, kVitUp, 16, 0.285, {0.55, 0.73, 1.01, 1.12}},
    {kForward, kVitDown, 16, 0.293, {0.44, 0.55, 0.80, 1.19}},
    {kForward, kGpt2Xl, 16, 0.405, {0.60, 0.86, 1.33, 1.99}},
    {kForward, kLlamaUp, 16, 1.134, {0.56, 0.97, 1.49, 2.49}},
    {kForward, kLlamaDown, 16, 1.108, {0.52, 0.79, 1.21, 1.85}},
    {kForward, kVitUp, 32, 0.281, {0.84, 1.29, 1.71, 1.77}},
    {kForward, kVitDown, 32, 0.287, {0.94, 1.35, 1.73, 2.32}},
    {kForward, kGpt2Xl, 32, 0.399, {1.02, 1.56, 2.37, 3.35}},
    {kForward, kLlamaUp, 32, 1.138, {1.04, 1.83, 3.12, 4.74}},
    {kForward, kLlamaDown, 32, 1.161, {0.89, 1.49, 2.37, 3.82}},
    {kForward, kVitUp, 64, 0.285, {1.30, 1.97, 1.97, 1.94}},
    {kForward, kVitDown, 64, 0.289, {1.21, 2.01, 2.36, 3.04}},
    {kForward, kGpt2Xl, 64, 0.397, {1.33, 2.72, 3.89, 3.97}},
    {kForward, kLlamaUp, 64, 1.242, {1.36, 3.43, 5.39, 8.14}},
    {kForward, kLlamaDown, 64, 1.121, {1.25, 2.57, 4.56, 7.26}},
    {kForward, kVitUp, 128, 0.282, {1.40, 1.91, 1.96, 1.99}},
    {kForward, kVitDown, 128, 0.285, {1.47, 2.58, 3.36, 4.45}},
    {kForward, kLlamaUp, 128, 1.247, {1.70, 4.12, 6.43, 8.84}},
    {kForward, kLlamaDown, 128, 1.198, {1.64, 3.36, 6.31, 9.91}},
    {kInputGradient, kVitUp, 16, 0.279, {0.42, 0.56, 0.79, 1.10}},
    {kInputGradient, kVitDown, 16, 0.288, {0.51, 0.77, 1.02, 1.12}},
    {kInputGradient, kGpt2Xl, 16, 0.408, {0.47, 0.72, 1.00, 1.34}},
    {kInputGradient, kLlamaUp, 16, 1.089, {0.50, 0.89, 1.32, 1.99}},
    {kInputGradient, kLlamaDown, 16, 1.108, {0.52, 1.06, 1.68, 2.65}},
    {kInputGradient, kVitUp, 32, 0.278, {0.92, 1.37, 1.72, 1.77}},
    {kInputGradient, kVitDown, 32, 0.289, {0.87, 1.31, 1.75, 1.83}},
    {kInputGradient, kGpt2Xl, 32, 0.408, {0.87, 1.40, 2.09, 2.92}},
    {kInputGradient, kLlamaUp, 32, 1.127, {0.86, 1.45, 2.40, 3.97}},
    {kInputGradient, kLlamaDown, 32, 1.155, {1.04, 1.93, 3.23, 4.84}},
    {kInputGradient, kVitUp, 64, 0.284, {1.21, 1.77, 2.21, 2.78}},
    {kInputGradient, kVitDown, 64, 0.289, {1.30, 1.97, 2.01, 1.99}},
    {kInputGradient, kGpt2Xl, 64, 0.400, {1.22, 2.36, 3.37, 4.31}},
    {kInputGradient, kLlamaUp, 64, 1.136, {1.35, 2.68, 4.29, 7.30}},
    {kInputGradient, kLlamaDown, 64, 1.167, {1.50, 2.78, 5.31, 7.87}},
    {kInputGradient, kVitUp, 128, 0.278, {1.50, 2.34, 3.30, 4.64}},
    {kInputGradient, kVitDown, 128, 0.290, {1.42, 1.97, 2.00, 2.00}},
    {kInputGradient, kLlamaUp, 128, 1.177, {1.80, 3.23, 5.57, 10.41}},
    {kInputGradient, kLlamaDown, 128, 1.194, {1.86, 3.83, 6.33, 8.38}},
    {kWeightGradient, kVitUp, 16, 0.307, {0.34, 0.48, 0.81, 1.02}},
    {kWeightGradient, kVitDown, 16, 0.311, {0.34, 0.49, 0.82, 1.26}},
    {kWeightGradient, kGpt2Xl, 16, 0.424, {0.37, 0.53, 0.71, 1.14}},
    {kWeightGradient, kLlamaUp, 16, 1.217, {0.32, 0.55, 0.86, 1.51}},
    {kWeightGradient, kLlamaDown, 16, 1.218, {0.33, 0.55, 0.86, 1.52}},
    {kWeightGradient, kVitUp, 32, 0.307, {0.60, 1.11, 1.64, 1.88}},
    {kWeightGradient, kVitDown, 32, 0.312, {0.59, 1.11, 1.60, 1.81}},
    {kWeightGradient, kGpt2Xl, 32, 0.433, {0.63, 1.12, 1.84, 2.87}},
    {kWeightGradient, kLlamaUp, 32, 1.239, {0.63, 1.36, 2.28, 3.77}},
    {kWeightGradient, kLlamaDown, 32, 1.236, {0.64, 1.37, 2.31, 3.74}},
    {kWeightGradient, kVitUp, 64, 0.305, {1.26, 1.87, 2.16, 3.10}},
    {kWeightGradient, kVitDown, 64, 0.308, {1.28, 2.04, 2.67, 3.44}},
    {kWeightGradient, kGpt2Xl, 64, 0.431, {1.25, 2.26, 3.57, 3.75}},
    {kWeightGradient, kLlamaUp, 64, 1.247, {1.32, 3.07, 4.48, 8.47}},
    {kWeightGradient, kLlamaDown, 64, 1.237, {1.33, 3.17, 4.50, 8.18}},
    {kWeightGradient, kVitUp, 128, 0.303, {1.53, 2.20, 3.11, 4.16}},
    {kWeightGradient, kVitDown, 128, 0.306, {1.45, 2.26, 3.09, 4.01}},
    {kWeightGradient, kLlamaUp, 128, 1.264, {1.81, 3.88, 6.73, 11.47}},
    {kWeightGradient, kLlamaDown, 128, 1.260, {1.75, 3.96, 5.89, 11.05}},
};
constexpr Measured kTf32[] = {
    {kForward, kVitUp, 16, 0.658, {0.87, 1.18, 1.65, 1.85}},
    {kForward, kVitDown, 16, 0.619, {0.85, 1.05, 1.13, 1.37}},
    {kForward, kGpt2Xl, 16, 0.888, {0.87, 1.28, 1.93, 2.89}},
    {kForward, kLlamaUp, 16, 2.366, {0.88, 1.43, 2.17, 3.48}},
    {kForward, kLlamaDown, 16, 2.391, {0.84, 1.08, 1.54, 2.10}},
    {kForward, kVitUp, 32, 0.635, {1.18, 1.87, 2.12, 2.04}},
    {kForward, kVitDown, 32, 0.685, {1.26, 1.88, 1.93, 3.10}},
    {kForward, kGpt2Xl, 32, 0.881, {1.23, 2.10, 3.31, 4.15}},
    {kForward, kLlamaUp, 32, 2.450, {1.12, 2.15, 3.69, 6.36}},
    {kForward, kLlamaDown, 32, 2.423, {1.05, 1.87, 2.71, 4.23}},
    {kForward, kVitUp, 64, 0.604, {1.38, 1.96, 2.05, 2.07}},
    {kForward, kVitDown, 64, 0.593, {1.25, 1.71, 2.58, 3.65}},
    {kForward, kGpt2Xl, 64, 0.834, {1.39, 2.89, 3.63, 3.96}},
    {kForward, kLlamaUp, 64, 2.237, {1.29, 2.77, 4.73, 6.90}},
    {kForward, kLlamaDown, 64, 2.177, {1.02, 1.88, 3.15, 5.55}},
    {kForward, kVitUp, 128, 0.609, {1.53, 2.10, 2.07, 2.17}},
    {kForward, kVitDown, 128, 0.583, {1.20, 2.47, 3.53, 4.92}},
    {kForward, kLlamaUp, 128, 2.295, {1.60, 3.54, 5.79, 6.57}},
    {kForward, kLlamaDown, 128, 2.161, {1.07, 2.17, 4.68, 7.24}},
    {kInputGradient, kVitUp, 16, 0.713, {0.97, 1.17, 1.29, 1.34}},
    {kInputGradient, kVitDown, 16, 0.717, {0.94, 1.31, 1.81, 1.99}},
    {kInputGradient, kGpt2Xl, 16, 0.919, {0.83, 1.10, 1.28, 1.57}},
    {kInputGradient, kLlamaUp, 16, 2.415, {0.84, 1.06, 1.55, 2.24}},
    {kInputGradient, kLlamaDown, 16, 2.456, {0.86, 1.40, 2.22, 3.54}},
    {kInputGradient, kVitUp, 32, 0.710, {1.29, 1.89, 1.88, 2.45}},
    {kInputGradient, kVitDown, 32, 0.758, {1.33, 2.13, 2.48, 2.40}},
    {kInputGradient, kGpt2Xl, 32, 0.940, {1.13, 1.88, 2.38, 3.29}},
    {kInputGradient, kLlamaUp, 32, 2.470, {0.97, 1.85, 3.07, 4.61}},
    {kInputGradient, kLlamaDown, 32, 2.501, {1.08, 2.12, 3.76, 6.35}},
    {kInputGradient, kVitUp, 64, 0.702, {1.18, 1.83, 2.95, 4.14}},
    {kInputGradient, kVitDown, 64, 0.695, {1.57, 2.19, 2.31, 2.34}},
    {kInputGradient, kGpt2Xl, 64, 0.912, {1.10, 2.05, 3.14, 5.00}},
    {kInputGradient, kLlamaUp, 64, 2.222, {1.08, 1.83, 2.96, 5.44}},
    {kInputGradient, kLlamaDown, 64, 2.386, {1.48, 2.83, 4.59, 6.69}},
    {kInputGradient, kVitUp, 128, 0.701, {1.54, 2.96, 4.14, 5.77}},
    {kInputGradient, kVitDown, 128, 0.692, {1.75, 2.36, 2.32, 2.37}},
    {kInputGradient, kLlamaUp, 128, 2.208, {1.01, 2.11, 4.78, 7.17}},
    {kInputGradient, kLlamaDown, 128, 2.381, {1.75, 3.54, 5.03, 6.28}},
    {kWeightGradient, kVitUp, 16, 1.065, {0.06, 0.17, 0.17, 0.33}},
    {kWeightGradient, kVitDown, 16, 1.069, {0.06, 0.18, 0.18, 0.35}},
    {kWeightGradient, kGpt2Xl, 16, 1.370, {0.07, 0.17, 0.32, 0.62}},
    {kWeightGradient, kLlamaUp, 16, 3.567, {0.07, 0.17, 0.33, 0.62}},
    {kWeightGradient, kLlamaDown, 16, 3.564, {0.07, 0.17, 0.33, 0.63}},
    {kWeightGradient, kVitUp, 32, 1.087, {0.81, 1.42, 1.89, 3.46}},
    {kWeightGradient, kVitDown, 32, 1.106, {0.84, 1.51, 1.89, 3.39}},
    {kWeightGradient, kGpt2Xl, 32, 1.443, {0.82, 1.53, 2.35, 4.23}},
    {kWeightGradient, kLlamaUp, 32, 3.835, {0.78, 1.51, 2.87, 4.82}},
    {kWeightGradient, kLlamaDown, 32, 3.825, {0.78, 1.47, 2.89, 5.11}},
    {kWeightGradient, kVitUp, 64, 1.102, {1.19, 2.36, 3.65, 5.71}},
    {kWeightGradient, kVitDown, 64, 1.109, {1.19, 2.31, 4.18, 6.06}},
    {kWeightGradient, kGpt2Xl, 64, 1.456, {1.19, 2.52, 4.15, 5.98}},
    {kWeightGradient, kLlamaUp, 64, 3.986, {1.14, 2.59, 4.96, 7.93}},
    {kWeightGradient, kLlamaDown, 64, 3.889, {1.11, 2.59, 4.92, 7.84}},
    {kWeightGradient, kVitUp, 128, 1.126, {1.32, 2.56, 5.18, 8.54}},
    {kWeightGradient, kVitDown, 128, 1.095, {1.32, 2.54, 5.25, 7.96}},
    {kWeightGradient, kLlamaUp, 128, 3.968, {1.13, 2.97, 5.31, 9.37}},
    {kWeightGradient, kLlamaDown, 128, 4.002, {1.11, 2.54, 5.39, 9.52}},
};
// clang-format on

BsrProblem problem_of(const Measured& row, double sparsity, DType dtype) {
  const Size& s = row.size;
  const std::int64_t blocks = s.rows / row.block * (s.cols / row.block);
  const bool tf32 = dtype == DType::kFloat32;
  return {.product = row.product,
          .dtype = dtype,
          .tf32 = tf32,
          .tokens = s.tokens,
          .rows = s.rows,
          .cols = s.cols,
          .block = row.block,
          .nnzb = std::llround((1 - sparsity) * static_cast<double>(blocks)),
          .hopper = !tf32 || row.product != kWeightGradient || row.block > 16};
}

// Milliseconds to write W from its live blocks, once for two products, or to take the live blocks
// of its gradient.
double folding(const Measured& row, double density, DType dtype) {
  const bool gradient = row.product == kWeightGradient;
  const auto element = static_cast<double>(size_of(gradient ? accumulator_of(dtype) : dtype));
  const double matrix = element * static_cast<double>(row.size.rows * row.size.cols);
  return 1e3 * matrix * (gradient ? 2 * density : (1 + density) / 2) / kFoldingBytes;
}

void check_winners(std::span<const Measured> table, DType dtype) {
  for (const Measured& row : table) {
    for (std::size_t i = 0; i < std::size(kSparsities); ++i) {
      const BsrProblem p = problem_of(row, kSparsities[i], dtype);
      const double own = row.dense / row.speedup[i];
      const double folded = row.dense + folding(row, 1 - kSparsities[i], dtype);
      const bool folds = kernels::cheapest_route(p) == BsrRoute::kFolded;
      CAPTURE(name_of(row.product));
      CAPTURE(row.size.tokens);
      CAPTURE(row.size.rows);
      CAPTURE(row.block);
      CAPTURE(kSparsities[i]);
      CAPTURE(row.speedup[i]);
      if (own < 0.97 * row.dense)
        CHECK_FALSE(folds);
      if (own > 1.03 * folded)
        CHECK(folds);
    }
  }
}

}  // namespace

TEST_CASE("the cost model chooses what was measured to be faster in bf16") {
  check_winners(kBFloat16, DType::kBFloat16);
}

TEST_CASE("the cost model chooses what was measured to be faster in tf32") {
  check_winners(kTf32, DType::kFloat32);
}

}  // namespace hew::test
