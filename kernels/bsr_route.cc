#include "kernels/bsr_route.h"

#include <algorithm>
#include <cmath>

namespace hew::kernels {
namespace {

// Fitted to what an H100 was measured to reach (docs/results/bsr-h100.md).
constexpr double kMemory = 2.8e12;  // bytes/s of device memory that products reach
constexpr double kCopy = 3.0e12;    // bytes/s of scatter_blocks and gather_blocks
constexpr double kLaunch = 4e-6;    // s
constexpr std::int64_t kGroupRows = 128;
constexpr std::int64_t kTokenTile = 256;
constexpr double kUnlimited = 1e18;  // what never binds

bool is_tf32(const BsrProblem& p) {
  return p.dtype == DType::kFloat32 && p.tf32;
}

// FLOP/s of live blocks where the tensor cores bind, bytes/s from L2 into all shared memories, and
// which share of the time for device memory is not hidden even where one of these binds.
struct Rates {
  double flops = kUnlimited;
  double shared_memory = kUnlimited;
  double exposed = 0.2;
};

// Rows of 128 bytes come at 8.5 TB/s, shorter ones slower or after a pass that packs them; rows of
// small blocks that are put together have more columns in common than by chance, which counts as a
// higher rate. Where the input is wider than the output fewer tiles share what is loaded.
Rates product_rates(const BsrProblem& p) {
  const bool forward = p.product == BsrProduct::kForward;
  const std::int64_t depth = forward ? p.cols : p.rows;
  const std::int64_t width = forward ? p.rows : p.cols;
  const double narrow = depth > width ? 0.86 : 1;
  Rates r;
  if (is_tf32(p)) {
    r = p.block >= 128  ? Rates{.flops = 300e12, .shared_memory = 8.5e12}
        : p.block >= 64 ? Rates{.flops = 290e12, .shared_memory = 8.5e12}
        : p.block >= 32 ? Rates{.flops = 280e12, .shared_memory = 10.5e12}
                        : Rates{.flops = 165e12, .shared_memory = 8.4e12, .exposed = 0.4};
  } else {
    r = p.block >= 64   ? Rates{.flops = 680e12, .shared_memory = 8.5e12}
        : p.block >= 32 ? Rates{.shared_memory = 8.3e12}
                        : Rates{.shared_memory = 6.8e12, .exposed = 0.9};
  }
  return {
      .flops = narrow * r.flops, .shared_memory = narrow * r.shared_memory, .exposed = r.exposed};
}

Rates weight_gradient_rates(const BsrProblem& p) {
  constexpr double kExposed = 0.65;
  if (is_tf32(p)) {  // without wgmma
    const double flops = p.block >= 128 ? 160e12 : p.block >= 64 ? 150e12 : kUnlimited;
    return {.flops = flops, .shared_memory = 5e12, .exposed = kExposed};
  }
  if (p.block >= 64)
    return {.flops = p.block >= 128 ? 750e12 : 620e12, .exposed = kExposed};
  return {.shared_memory = p.block >= 32 ? 6.8e12 : 4.2e12, .exposed = kExposed};
}

// FLOP/s of the plain kernels.
double plain_rate(const BsrProblem& p) {
  if (p.dtype == DType::kBFloat16)
    return p.block >= 64 ? 120e12 : p.block >= 32 ? 90e12 : p.block >= 16 ? 40e12 : 8e12;
  if (p.product == BsrProduct::kWeightGradient && p.block <= 16)
    return 8e12;
  return p.dtype == DType::kFloat32 ? 25e12 : 15e12;
}

// The library's dense product: FLOP/s, and which share of the time for its bytes is not hidden.
struct DenseRate {
  double flops;
  double exposed = 0;
};
DenseRate dense_rate(const BsrProblem& p) {
  const bool weight_gradient = p.product == BsrProduct::kWeightGradient;
  if (p.dtype == DType::kBFloat16)
    return {.flops = weight_gradient ? 740e12 : 870e12, .exposed = 0.06};
  if (!is_tf32(p))
    return {.flops = 50e12};
  const bool forward = p.product == BsrProduct::kForward;
  return {.flops = weight_gradient ? 250e12 : forward ? 470e12 : 410e12, .exposed = 0.45};
}

double element_bytes(const BsrProblem& p) {
  return static_cast<double>(size_of(p.dtype));
}

// Of W, or of its gradient.
double value_element_bytes(const BsrProblem& p) {
  return p.product == BsrProduct::kWeightGradient
             ? static_cast<double>(size_of(accumulator_of(p.dtype)))
             : element_bytes(p);
}

double live_flops(const BsrProblem& p) {
  return 2.0 * static_cast<double>(p.tokens) * static_cast<double>(p.nnzb) *
         static_cast<double>(p.block * p.block);
}

double dense_flops(const BsrProblem& p) {
  return 2.0 * static_cast<double>(p.tokens) * static_cast<double>(p.rows) *
         static_cast<double>(p.cols);
}

double value_bytes(const BsrProblem& p) {
  return value_element_bytes(p) * static_cast<double>(p.nnzb) *
         static_cast<double>(p.block * p.block);
}

// Of both matrices of tokens, whole, read or written once.
double token_bytes(const BsrProblem& p) {
  return element_bytes(p) * static_cast<double>(p.tokens) * static_cast<double>(p.rows + p.cols);
}

// The same without the columns of an input that no live block needs.
double live_token_bytes(const BsrProblem& p) {
  const auto share = [&p](std::int64_t size) {  // of columns that meet `size` of W
    const std::int64_t blocks = (size + p.block - 1) / p.block;
    return 1 - std::pow(1 - p.density(), static_cast<double>(blocks));
  };
  const double rows = p.product == BsrProduct::kForward ? 1 : share(p.cols);
  const double cols = p.product == BsrProduct::kInputGradient ? 1 : share(p.rows);
  return element_bytes(p) * static_cast<double>(p.tokens) *
         (rows * static_cast<double>(p.rows) + cols * static_cast<double>(p.cols));
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
    return element_bytes(p) * tokens * block * nnzb;
  return moving + element_bytes(p) * block * block * nnzb * std::ceil(tokens / kTokenTile);
}

// Our own kernels' copy of the values for the input gradient in tf32, each block transposed.
double transposing_seconds(const BsrProblem& p) {
  const bool copies = is_tf32(p) && p.product == BsrProduct::kInputGradient;
  return copies ? 2 * value_bytes(p) / kMemory + kLaunch : 0;
}

// W is written whole, from live blocks, for at least two products: forward and input gradient share
// it (FoldedWeight). Of its gradient live blocks alone are copied.
double folding_seconds(const BsrProblem& p) {
  const double matrix =
      value_element_bytes(p) * static_cast<double>(p.rows) * static_cast<double>(p.cols);
  if (p.product == BsrProduct::kWeightGradient)
    return 2 * value_bytes(p) / kCopy + kLaunch;
  constexpr double kSharing = 2;
  return ((matrix + value_bytes(p)) / kCopy + kLaunch) / kSharing;
}

double hopper_seconds(const BsrProblem& p) {
  const bool weight_gradient = p.product == BsrProduct::kWeightGradient;
  const Rates rates = weight_gradient ? weight_gradient_rates(p) : product_rates(p);
  const double memory = (live_token_bytes(p) + value_bytes(p)) / kMemory;
  const double inside =
      std::max(live_flops(p) / rates.flops, shared_memory_bytes(p) / rates.shared_memory);
  return std::max(memory, inside + rates.exposed * memory) + transposing_seconds(p) + kLaunch;
}

double dense_seconds(const BsrProblem& p) {
  const DenseRate rate = dense_rate(p);
  const double memory = token_bytes(p) / kMemory;
  return std::max(memory, dense_flops(p) / rate.flops + rate.exposed * memory) + kLaunch;
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
  switch (route) {
    case BsrRoute::kPlain:
      return std::max(live_flops(p) / plain_rate(p), (token_bytes(p) + value_bytes(p)) / kMemory) +
             kLaunch;
    case BsrRoute::kHopper:
      return hopper_seconds(p);
    case BsrRoute::kFolded:
      return dense_seconds(p) + folding_seconds(p);
  }
  return 0;
}

BsrRoute cheapest_route(const BsrProblem& p) {
  BsrRoute best = p.hopper ? BsrRoute::kHopper : BsrRoute::kPlain;
  const double own = estimated_seconds(best, p);
  return estimated_seconds(BsrRoute::kFolded, p) < own ? BsrRoute::kFolded : best;
}

}  // namespace hew::kernels
