#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <utility>

#include "core/dtype.h"
#include "core/named_enum.h"
#include "core/tensor.h"
#include "kernels/bsr.h"

namespace hew::kernels {

enum class BsrProduct : std::uint8_t { kForward, kInputGradient, kWeightGradient };

/// The ways in which a GPU multiplies with a block-sparse matrix.
///   kPlain   kernels for every block, dtype and GPU
///   kHopper  kernels of Hopper's own instructions (kernels/hopper/)
///   kFolded  the dense product with the blocks scattered into a zero matrix, or gathered from one
enum class BsrRoute : std::uint8_t { kPlain, kHopper, kFolded };

/// One block-sparse product as far as its cost depends on it.
struct BsrProblem {
  BsrProduct product = BsrProduct::kForward;
  DType dtype = DType::kBFloat16;
  bool tf32 = false;  // float32 products may round their factors to tf32
  std::int64_t tokens = 0;
  std::int64_t rows = 0;  // N
  std::int64_t cols = 0;  // K
  std::int64_t block = 0;
  std::int64_t nnzb = 0;
  bool hopper = false;  // whether that route takes it

  double density() const;
};

/// `moving` is one of the two matrices of tokens.
BsrProblem problem_of(BsrProduct product, const ConstView& moving, const BsrIndex& index,
                      bool hopper);

/// Seconds that a route takes on an H100, by its FLOPs, its bytes of device memory and its bytes
/// from the L2 cache into shared memory, at rates fitted to measured times
/// (docs/results/bsr-h100.md). Only ratios of routes count.
double estimated_seconds(BsrRoute route, const BsrProblem& problem);

/// The cheapest route, where forward and input gradient fold W once for both, also of runs that
/// keep no W. Depends on its argument alone, so that every run chooses alike.
BsrRoute cheapest_route(const BsrProblem& problem);

}  // namespace hew::kernels

namespace hew {

template <>
struct EnumNames<kernels::BsrProduct> {
  using E = kernels::BsrProduct;
  static constexpr auto kTable =
      std::to_array<std::pair<E, std::string_view>>({{E::kForward, "forward"},
                                                     {E::kInputGradient, "input_gradient"},
                                                     {E::kWeightGradient, "weight_gradient"}});
};

}  // namespace hew
