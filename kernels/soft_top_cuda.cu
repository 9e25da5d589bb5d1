#include <cmath>
#include <vector>

#include "kernels/launch.cuh"
#include "kernels/reduce.cuh"
#include "kernels/soft_top.h"
#include "kernels/soft_top_root.h"
#include "kernels/tensor_table.cuh"

namespace hew::kernels {
namespace {

// A matrix is one thread block's, so that sums have one order and the search needs no other launch.
constexpr int kThreads = 1024;

struct Entry {
  const double* values;
  double* mask;
  double* slope;
  std::int64_t n;
  double keep;
  double sharpness;
};

__device__ double logistic(double x) {
  return 1 / (1 + exp(-x));
}

// All threads have the same numbers, and so leave loops together.
__global__ void __launch_bounds__(kThreads) soft_top_kernel(const Entry* entries) {
  const Entry e = entries[blockIdx.x];
  const auto n = static_cast<double>(e.n);
  double sum = 0;
  for (std::int64_t j = threadIdx.x; j < e.n; j += kThreads) sum += e.values[j];
  const double mean = block_sum<kThreads>(sum) / n;
  double squares = 0;
  double above = -INFINITY;  // the largest distances from the mean
  double below = -INFINITY;
  for (std::int64_t j = threadIdx.x; j < e.n; j += kThreads) {
    const double distance = e.values[j] - mean;
    squares += distance * distance;
    above = distance > above || distance != distance ? distance : above;
    below = -distance > below || distance != distance ? -distance : below;
  }
  const double deviation = sqrt(block_sum<kThreads>(squares) / n);
  above = block_max<kThreads>(above);
  below = block_max<kThreads>(below);
  const double slope = deviation == 0 ? 0 : e.sharpness / deviation;
  if (threadIdx.x == 0)
    e.slope[0] = slope;

  const double middle = log(e.keep / (n - e.keep));  // unused where all blocks are kept
  SoftTopRoot root{.low = middle - slope * above, .high = middle + slope * below, .at = middle};
  double mu = root.at;
  for (int round = 0; e.keep < n && round < kSoftTopRounds; ++round) {
    mu = root.at;
    double total = 0;
    double derivative = 0;
    for (std::int64_t j = threadIdx.x; j < e.n; j += kThreads) {
      const double m = logistic(slope * (e.values[j] - mean) + mu);
      total += m;
      derivative += m * (1 - m);
    }
    total = block_sum<kThreads>(total);
    derivative = block_sum<kThreads>(derivative);
    if (!root.advance(total - e.keep, derivative))
      break;
  }
  for (std::int64_t j = threadIdx.x; j < e.n; j += kThreads) {
    e.mask[j] = e.keep < n ? logistic(slope * (e.values[j] - mean) + mu) : 1.0;
  }
}

struct Gradient {
  const double* values;
  const double* mask;
  const double* slope;
  const double* dmask;
  double* factor;
  std::int64_t rows;
  std::int64_t cols;
  std::int64_t block;
  std::int64_t columns;  // C
  std::int64_t n;
};

__global__ void __launch_bounds__(kThreads) gradient_kernel(const Gradient g) {
  double weighted = 0;
  double weights = 0;
  for (std::int64_t j = threadIdx.x; j < g.n; j += kThreads) {
    const double s = g.mask[j] * (1 - g.mask[j]);
    weighted += s * g.dmask[j];
    weights += s;
  }
  weighted = block_sum<kThreads>(weighted);
  weights = block_sum<kThreads>(weights);
  const double mean = weights == 0 ? 0 : weighted / weights;
  const double slope = *g.slope;
  for (std::int64_t j = threadIdx.x; j < g.n; j += kThreads) {
    const std::int64_t r = j / g.columns;
    const std::int64_t c = j - r * g.columns;
    const std::int64_t rows = min(g.block, g.rows - r * g.block);
    const std::int64_t cols = min(g.block, g.cols - c * g.block);
    const double v = g.values[j];
    const double m = g.mask[j];
    const double dv = slope * m * (1 - m) * (g.dmask[j] - mean);
    g.factor[j] = v == 0 ? 0 : dv / (static_cast<double>(rows * cols) * v);
  }
}

}  // namespace

void soft_top(Cuda backend, std::span<const SoftTop> matrices) {
  std::vector<Entry> entries;
  for (const SoftTop& matrix : matrices) {
    entries.push_back({.values = matrix.values.as<double>(),
                       .mask = matrix.mask.as<double>(),
                       .slope = matrix.slope.as<double>(),
                       .n = matrix.values.numel(),
                       .keep = static_cast<double>(matrix.keep),
                       .sharpness = matrix.sharpness});
  }
  const Tensor table = upload(entries, backend.stream);
  soft_top_kernel<<<static_cast<unsigned int>(entries.size()), kThreads, 0, native(backend)>>>(
      entries_of<Entry>(table));
  check_launch("soft_top");
}

void soft_top_gradient(Cuda backend, const SoftTopGradient& args) {
  const std::int64_t n = args.values.numel();
  if (n == 0)
    return;
  const Gradient gradient{.values = args.values.as<double>(),
                          .mask = args.mask.as<double>(),
                          .slope = args.slope.as<double>(),
                          .dmask = args.dmask.as<double>(),
                          .factor = args.factor.as<double>(),
                          .rows = args.rows,
                          .cols = args.cols,
                          .block = args.block,
                          .columns = args.values.shape[1],
                          .n = n};
  gradient_kernel<<<1, kThreads, 0, native(backend)>>>(gradient);
  check_launch("soft_top_gradient");
}

}  // namespace hew::kernels
