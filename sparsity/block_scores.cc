#include "sparsity/block_scores.h"

#include <cmath>

#include "core/rng.h"
#include "kernels/elementwise.h"

namespace hew::sparsity {
namespace {

// Keeps the draw of starting scores apart from random_block_scores under the same key.
constexpr std::uint64_t kScoreStream = ~0ULL;

}  // namespace

std::vector<double> spread(const BsrPattern& pattern, const std::vector<double>& live) {
  std::vector<double> all(static_cast<std::size_t>(pattern.grid().blocks()), 0.0);
  for (std::size_t p = 0; p < live.size(); ++p) {
    all[static_cast<std::size_t>(pattern.live_blocks()[p])] = live[p];
  }
  return all;
}

std::vector<double> random_block_scores(const BlockGrid& grid, std::uint64_t key,
                                        std::int64_t stream) {
  std::vector<double> scores;
  for (std::int64_t b = 0; b < grid.blocks(); ++b) {
    scores.push_back(static_cast<double>(
        uniform(key, static_cast<std::uint64_t>(stream), static_cast<std::uint64_t>(b))));
  }
  return scores;
}

Tensor initial_scores(const BlockGrid& grid, std::uint64_t key, const Tensor& like) {
  const float bound = 1.0F / std::sqrt(static_cast<float>(grid.block_cols()));
  std::vector<float> scores;
  for (std::int64_t b = 0; b < grid.blocks(); ++b) {
    scores.push_back(bound *
                     (2.0F * uniform(key, kScoreStream, static_cast<std::uint64_t>(b)) - 1.0F));
  }
  const Shape shape{grid.block_rows(), grid.block_cols()};
  const Tensor narrow = Tensor::from(scores, shape, like.stream());
  Tensor out = Tensor::empty(shape, like.dtype(), like.stream());
  kernels::cast(narrow, out, like.stream());
  return out;
}

std::vector<double> widen(const Tensor& tensor) {
  if (tensor.dtype() == DType::kFloat64)
    return tensor.to_vector<double>();
  const std::vector<float> narrow = tensor.to_vector<float>();
  return {narrow.begin(), narrow.end()};
}

}  // namespace hew::sparsity
