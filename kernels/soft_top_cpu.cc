#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/soft_top.h"
#include "kernels/soft_top_root.h"

namespace hew::kernels {
namespace {

struct Moments {
  double mean;
  double deviation;
};

Moments moments_of(std::span<const double> v) {
  const auto n = static_cast<double>(v.size());
  const double mean = std::accumulate(v.begin(), v.end(), 0.0) / n;
  double squares = 0;
  for (const double x : v) squares += (x - mean) * (x - mean);
  return {mean, std::sqrt(squares / n)};
}

// m_j of every value at μ, which is that of values less their mean; returns Σ m and Σ m(1 − m).
std::pair<double, double> logistic(std::span<const double> v, double mean, double slope, double mu,
                                   double* mask) {
  double sum = 0;
  double derivative = 0;
  for (std::size_t j = 0; j < v.size(); ++j) {
    const double m = 1 / (1 + std::exp(-(slope * (v[j] - mean) + mu)));
    mask[j] = m;
    sum += m;
    derivative += m * (1 - m);
  }
  return {sum, derivative};
}

void soft_top_of_one(const SoftTop& matrix) {
  const std::span v(matrix.values.as<double>(), static_cast<std::size_t>(matrix.values.numel()));
  auto* mask = matrix.mask.as<double>();
  const auto [mean, deviation] = moments_of(v);
  const double slope = deviation > 0 ? matrix.sharpness / deviation : 0;
  matrix.slope.as<double>()[0] = slope;
  if (matrix.keep == std::ssize(v)) {
    std::fill_n(mask, v.size(), 1.0);
    return;
  }
  const auto [smallest, largest] = std::minmax_element(v.begin(), v.end());
  const auto keep = static_cast<double>(matrix.keep);
  const double middle = std::log(keep / (static_cast<double>(v.size()) - keep));
  SoftTopRoot root{.low = middle - slope * (*largest - mean),
                   .high = middle - slope * (*smallest - mean),
                   .at = middle};
  for (int round = 0; round < kSoftTopRounds; ++round) {
    const auto [sum, derivative] = logistic(v, mean, slope, root.at, mask);
    if (!root.advance(sum - keep, derivative))
      break;
  }
}

}  // namespace

void soft_top(Cpu /*backend*/, std::span<const SoftTop> matrices) {
  for (const SoftTop& matrix : matrices) {
    const auto* v = matrix.values.as<double>();
    for (std::int64_t j = 0; j < matrix.values.numel(); ++j)
      require<Error>(std::isfinite(v[j]), "[soft_top] the value of block {} is not finite", j);
  }
#pragma omp parallel for schedule(dynamic, 1)
  for (std::size_t i = 0; i < matrices.size(); ++i) soft_top_of_one(matrices[i]);
}

void soft_top_gradient(Cpu /*backend*/, const SoftTopGradient& args) {
  const auto* v = args.values.as<double>();
  const auto* mask = args.mask.as<double>();
  const auto* dmask = args.dmask.as<double>();
  const std::int64_t columns = args.values.shape[1];
  const std::int64_t n = args.values.numel();
  double weighted = 0;
  double weights = 0;
  for (std::int64_t j = 0; j < n; ++j) {
    const double s = mask[j] * (1 - mask[j]);
    weighted += s * dmask[j];
    weights += s;
  }
  const double mean = weights > 0 ? weighted / weights : 0;
  const double slope = args.slope.as<double>()[0];
  for (std::int64_t j = 0; j < n; ++j) {
    const std::int64_t rows = std::min(args.block, args.rows - j / columns * args.block);
    const std::int64_t cols = std::min(args.block, args.cols - j % columns * args.block);
    const double dv = slope * mask[j] * (1 - mask[j]) * (dmask[j] - mean);
    args.factor.as<double>()[j] = v[j] > 0 ? dv / (static_cast<double>(rows * cols) * v[j]) : 0;
  }
}

}  // namespace hew::kernels
