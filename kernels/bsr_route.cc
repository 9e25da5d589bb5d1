#include "kernels/bsr_route.h"

#include <algorithm>
#include <cmath>

namespace hew::kernels {
namespace {

// Measured on an H100.
constexpr double kMemory = 2.6e12;   // bytes/s of device memory that products reach
constexpr double kLaunch = 4e-6;     // s
constexpr double kScatter = 3.6e12;  // bytes/s of scatter_blocks and gather_blocks
constexpr std::int64_t kGroupRows = 128;
constexpr std::int64_t kTokenTile = 256;

// FLOP/s of the library's dense products, and of the plain kernels.
double dense_rate(const BsrProblem& p) {
  if (p.dtype == DType::kBFloat16)
    return 760e12;
  if (p.dtype == DType::kFloat32)
    return p.tf32 ? 340e12 : 50e12;
  return 50e12;
}

double plain_rate(const BsrProblem& p) {
  if (p.dtype == DType::kBFloat16)
    return p.block >= 64 ? 120e12 : p.block >= 32 ? 90e12 : p.block >= 16 ? 40e12 : 8e12;
  return p.dtype == DType::kFloat32 ? 25e12 : 15e12;
}

double element_bytes(const BsrProblem& p) {
  return static_cast<double>(size_of(p.dtype));
}

bool is_tf32(const BsrProblem& p) {
  return p.dtype == DType::kFloat32 && p.tf32;
}

// FLOP/s of live blocks where the tensor cores bind; in tf32 estimated from that. Blocks below 64
// are multiplied together with dead ones beside them; the weight gradient in tf32 has no wgmma.
double hopper_rate(const BsrProblem& p) {
  const bool weight_gradient = p.product == BsrProduct::kWeightGradient;
  if (is_tf32(p) && weight_gradient)
    return p.block >= 64 ? 190e12 : 100e12;
  if (is_tf32(p))
    return p.block >= 128 ? 300e12 : p.block >= 64 ? 270e12 : p.block >= 32 ? 190e12 : 120e12;
  if (weight_gradient)
    return 0.85 * (p.block >= 128 ? 660e12 : p.block >= 64 ? 600e12 : 320e12);
  return p.block >= 128 ? 660e12 : p.block >= 64 ? 600e12 : p.block >= 32 ? 320e12 : 200e12;
}

// Bytes/s from L2 into all shared memories; short rows reach less.
double shared_memory_rate(const BsrProblem& p) {
  const double row = element_bytes(p) * static_cast<double>(p.block);
  return row >= 128 ? 7.8e12 : row >= 64 ? 5.7e12 : 3.5e12;
}

double live_flops(const BsrProblem& p) {
  return 2.0 * static_cast<double>(p.tokens) * static_cast<double>(p.nnzb) *
         static_cast<double>(p.block * p.block);
}

double dense_flops(const BsrProblem& p) {
  return 2.0 * static_cast<double>(p.tokens) * static_cast<double>(p.rows) *
         static_cast<double>(p.cols);
}

// Of the two matrices of tokens, read or written once.
double token_bytes(const BsrProblem& p) {
  return element_bytes(p) * static_cast<double>(p.tokens) * static_cast<double>(p.rows + p.cols);
}

double value_bytes(const BsrProblem& p) {
  const double element = p.product == BsrProduct::kWeightGradient
                             ? static_cast<double>(size_of(accumulator_of(p.dtype)))
                             : element_bytes(p);
  return element * static_cast<double>(p.nnzb) * static_cast<double>(p.block * p.block);
}

// Tiles of tokens × block that a group of block rows reads share the columns they have in common:
// of columns live in a share d of the rows, 1 − (1 − d)^g are live in one of g rows.
double shared_memory_bytes(const BsrProblem& p) {
  const auto group = static_cast<double>(std::max<std::int64_t>(1, kGroupRows / p.block));
  const double density = std::max(p.density(), 1e-9);
  const double united = (1 - std::pow(1 - density, group)) / (group * density);
  const double nnzb = static_cast<double>(p.nnzb);
  const double block = static_cast<double>(p.block);
  const double tokens = static_cast<double>(p.tokens);
  const double moving = element_bytes(p) * tokens * block * nnzb * united;
  if (p.product == BsrProduct::kWeightGradient)
    return 1.25 * element_bytes(p) * tokens * block * nnzb;  // four blocks share a tile of dy
  return moving + element_bytes(p) * block * block * nnzb * std::ceil(tokens / kTokenTile);
}

// Our own kernels' copy of the values for the input gradient in tf32, each block transposed.
double transposing_seconds(const BsrProblem& p) {
  const bool copies = is_tf32(p) && p.product == BsrProduct::kInputGradient;
  return copies ? 2 * value_bytes(p) / kMemory + kLaunch : 0;
}

double folding_seconds(const BsrProblem& p) {
  const double element = p.product == BsrProduct::kWeightGradient
                             ? static_cast<double>(size_of(accumulator_of(p.dtype)))
                             : element_bytes(p);
  const double matrix = element * static_cast<double>(p.rows) * static_cast<double>(p.cols);
  return (matrix + 2 * value_bytes(p)) / kScatter + kLaunch;
}

}  // namespace

double BsrProblem::density() const {
  const auto blocks = [this](std::int64_t n) { return (n + block - 1) / block; };
  const std::int64_t all = blocks(rows) * blocks(cols);
  return all == 0 ? 0 : static_cast<double>(nnzb) / static_cast<double>(all);
}

BsrProblem problem_of(BsrProduct product, const ConstView& moving, const BsrIndex& index,
                      bool hopper) {
  return {.product = product,
          .dtype = moving.dtype,
          .tokens = moving.shape[0],
          .rows = index.rows,
          .cols = index.cols,
          .block = index.block,
          .nnzb = index.nnzb,
          .hopper = hopper};
}

double estimated_seconds(BsrRoute route, const BsrProblem& p) {
  const double memory = (token_bytes(p) + value_bytes(p)) / kMemory;
  switch (route) {
    case BsrRoute::kPlain:
      return std::max(live_flops(p) / plain_rate(p), memory) + kLaunch;
    case BsrRoute::kHopper:
      return std::max({live_flops(p) / hopper_rate(p), memory,
                       shared_memory_bytes(p) / shared_memory_rate(p)}) +
             transposing_seconds(p) + kLaunch;
    case BsrRoute::kFolded:
      return std::max(dense_flops(p) / dense_rate(p), token_bytes(p) / kMemory) +
             folding_seconds(p) + kLaunch;
  }
  return 0;
}

BsrRoute cheapest_route(const BsrProblem& p) {
  BsrRoute best = p.hopper ? BsrRoute::kHopper : BsrRoute::kPlain;
  const double own = estimated_seconds(best, p);
  return estimated_seconds(BsrRoute::kFolded, p) < own ? BsrRoute::kFolded : best;
}

}  // namespace hew::kernels
