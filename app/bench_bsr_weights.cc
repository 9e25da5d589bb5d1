#include "app/bench_bsr_weights.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/rng.h"

namespace hew {
namespace {

constexpr std::uint64_t kPatternKey = 2;
// Of a long row or column, times the mean.
constexpr double kLongFactor = 8;

struct Draw {
  std::array<std::uint32_t, 4> words;
  std::int64_t block;
};

std::vector<Draw> draw_blocks(std::int64_t count) {
  std::vector<Draw> draws(static_cast<std::size_t>(count));
#pragma omp parallel for
  for (std::int64_t i = 0; i < count; ++i) {
    draws[static_cast<std::size_t>(i)] = {philox(kPatternKey, 0, static_cast<std::uint64_t>(i)), i};
  }
  return draws;
}

// Adds the `count` lowest draws to the mask.
void take(std::span<Draw> draws, std::int64_t count, sparsity::MaskBytes& mask) {
  const auto end = draws.begin() + count;
  std::nth_element(draws.begin(), end, draws.end(),
                   [](const Draw& a, const Draw& b) { return a.words < b.words; });
  for (auto draw = draws.begin(); draw != end; ++draw) {
    mask[static_cast<std::size_t>(draw->block)] = 1;
  }
}

}  // namespace

std::span<const BsrShape> known_bsr_shapes() {
  static const std::array<BsrShape, 5> kShapes{{{"vitb_fc1", 50432, 3072, 768},
                                                {"vitb_fc2", 50432, 768, 3072},
                                                {"gpt2xl_fc1", 16384, 6400, 1600},
                                                {"llama_up", 8192, 14336, 4096},
                                                {"llama_down", 8192, 4096, 14336}}};
  return kShapes;
}

std::vector<BsrShape> bsr_shapes_of(const std::vector<std::string>& names) {
  const auto known = known_bsr_shapes();
  std::vector<BsrShape> shapes;
  for (const std::string& name : names) {
    if (name == "all") {
      shapes.insert(shapes.end(), known.begin(), known.end());
      continue;
    }
    const auto found = std::find_if(known.begin(), known.end(),
                                    [&](const BsrShape& shape) { return shape.name == name; });
    if (found == known.end()) {
      std::vector<std::string> all;
      for (const BsrShape& shape : known) all.push_back(shape.name);
      throw ConfigError(
          fmt::format("--shape {}: expected all or some of {}", name, fmt::join(all, ", ")));
    }
    shapes.push_back(*found);
  }
  return shapes;
}

sparsity::BsrPattern draw_pattern(BsrPatternKind kind, const sparsity::BlockGrid& grid,
                                  double sparsity, const Stream& stream) {
  const std::int64_t live = sparsity::live_blocks(grid.blocks(), sparsity);
  std::vector<Draw> draws = draw_blocks(grid.blocks());
  sparsity::MaskBytes mask(draws.size(), 0);
  const bool row = kind == BsrPatternKind::kLongRow;
  const std::int64_t lines = row ? grid.block_rows() : grid.block_cols();
  const auto in_long_line = [&](const Draw& draw) {
    const std::int64_t line = row ? draw.block / grid.block_cols() : draw.block % grid.block_cols();
    return kind != BsrPatternKind::kRandom && line == lines / 2;
  };
  const auto middle = std::partition(draws.begin(), draws.end(), in_long_line);
  const std::int64_t possible = middle - draws.begin();
  const auto wanted = static_cast<std::int64_t>(
      std::llround(kLongFactor * static_cast<double>(live) / static_cast<double>(lines)));
  const std::int64_t count = std::min({wanted, possible, live});
  take({draws.begin(), middle}, count, mask);
  take({middle, draws.end()}, live - count, mask);
  return {grid, mask, stream};
}

}  // namespace hew
