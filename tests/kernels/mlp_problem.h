#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/rng.h"
#include "tests/support/block_pattern.h"

/// A block-sparse MLP of one token by its definition, with an activation that has no zero slope.
namespace hew::test {

using Values = std::vector<double>;

inline std::size_t at(std::int64_t i) {
  return static_cast<std::size_t>(i);
}

inline Values random_values(std::int64_t count, std::uint64_t seed) {
  Values out(at(count));
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = uniform(seed, 7, i) - 0.5;
  return out;
}

// W's values, zero in the padding.
inline Values values_of(const BlockPattern& p, std::uint64_t seed) {
  Values out = random_values(p.nnzb() * p.block * p.block, seed);
  for (std::size_t r = 0; r + 1 < p.crow.size(); ++r) {
    for (std::int64_t n = p.crow[r]; n < p.crow[r + 1]; ++n) {
      for (std::int64_t i = 0; i < p.block * p.block; ++i) {
        const std::int64_t row = static_cast<std::int64_t>(r) * p.block + i / p.block;
        const std::int64_t col = p.col[at(n)] * p.block + i % p.block;
        if (row >= p.rows || col >= p.cols)
          out[at(n * p.block * p.block + i)] = 0;
      }
    }
  }
  return out;
}

inline Values product(const BlockPattern& p, const Values& values, const Values& x) {
  Values y(at(p.rows), 0);
  for (std::size_t r = 0; r + 1 < p.crow.size(); ++r) {
    for (std::int64_t n = p.crow[r]; n < p.crow[r + 1]; ++n) {
      for (std::int64_t i = 0; i < p.block * p.block; ++i) {
        const std::int64_t row = static_cast<std::int64_t>(r) * p.block + i / p.block;
        const std::int64_t col = p.col[at(n)] * p.block + i % p.block;
        if (row < p.rows && col < p.cols)
          y[at(row)] += values[at(n * p.block * p.block + i)] * x[at(col)];
      }
    }
  }
  return y;
}

inline double activated(double x) {
  return std::max(x, 0.0) + 0.125 * x;
}

/// One MLP and its inputs.
struct MlpProblem {
  BlockPattern up;
  BlockPattern down;
  Values up_values = values_of(up, 1);
  Values down_values = values_of(down, 2);
  Values up_bias = random_values(up.rows, 3);

  Values input(int tile) const {
    return random_values(up.cols, 10 + static_cast<std::uint64_t>(tile));
  }
  Values output(int tile) const {
    Values hidden = product(up, up_values, input(tile));
    for (std::size_t i = 0; i < hidden.size(); ++i) hidden[i] = activated(hidden[i] + up_bias[i]);
    return product(down, down_values, hidden);
  }
};

}  // namespace hew::test
