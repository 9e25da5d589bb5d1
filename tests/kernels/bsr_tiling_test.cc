#include "kernels/hopper/bsr_tiling.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <optional>

#include "kernels/bsr_routes.h"
#include "tests/kernels/measured_layers.h"
#include "tests/support/block_pattern.h"

namespace hew::test {
namespace {

using kernels::BsrSchedule;
using kernels::hopper::BsrPacking;
using kernels::hopper::BsrTile;
using kernels::hopper::BsrTiling;
using kernels::hopper::choose_tiling;

struct Problem {
  std::int64_t tokens, rows, cols, block;
  double density;
  std::int64_t element_bytes = 2;
  bool gradient = false;  // of the input
};

BsrTiling tiling_of(const Problem& p, std::optional<bool> tall = {}) {
  const BlockPattern pattern = random_pattern(p.rows, p.cols, p.block, p.density, 3);
  const Stream cpu = make_cpu_stream();
  cpu.state->get<kernels::BsrSettings>(cpu).tall = tall;
  const BsrSchedule schedule(pattern.index(), cpu);
  return choose_tiling(p.gradient ? schedule.by_columns : schedule.by_rows,
                       {.tokens = p.tokens,
                        .depth = p.gradient ? p.rows : p.cols,
                        .width = p.gradient ? p.cols : p.rows,
                        .block = p.block,
                        .nnzb = pattern.nnzb(),
                        .element_bytes = p.element_bytes,
                        .multiprocessors = 132},
                       {.tall = tall});
}

// Of tiles of 128 rows.
BsrPacking packing_of(const Problem& p) {
  return tiling_of(p, /*tall=*/false).packing;
}

constexpr bool kForward = false;
constexpr bool kInputGradient = true;

// Milliseconds of a product with nothing, the blocks, the input and both packed, on an H100
// (docs/results/bsr-h100.md).
struct Measured {
  bool gradient;
  Size size;
  std::int64_t block;
  double sparsity;
  std::int64_t element_bytes;
  double times[4];
};
// clang-format off
constexpr Measured kMeasured[] = {
    {kForward, kVitUp, 16, 0.5, 2, {0.732, 0.641, 0.515, 0.510}},
    {kForward, kVitUp, 16, 0.8, 2, {0.523, 0.485, 0.377, 0.365}},
    {kForward, kVitUp, 16, 0.9, 2, {0.370, 0.352, 0.283, 0.270}},
    {kForward, kVitUp, 16, 0.95, 2, {0.275, 0.266, 0.254, 0.246}},
    {kForward, kVitDown, 16, 0.5, 2, {0.717, 0.617, 0.643, 0.646}},
    {kForward, kVitDown, 16, 0.8, 2, {0.535, 0.495, 0.540, 0.538}},
    {kForward, kVitDown, 16, 0.9, 2, {0.381, 0.363, 0.430, 0.432}},
    {kForward, kVitDown, 16, 0.95, 2, {0.250, 0.246, 0.357, 0.359}},
    {kForward, kGpt2Xl, 16, 0.5, 2, {0.989, 0.854, 0.649, 0.646}},
    {kForward, kGpt2Xl, 16, 0.8, 2, {0.663, 0.616, 0.478, 0.468}},
    {kForward, kGpt2Xl, 16, 0.9, 2, {0.433, 0.409, 0.298, 0.297}},
    {kForward, kGpt2Xl, 16, 0.95, 2, {0.281, 0.269, 0.204, 0.204}},
    {kForward, kLlamaUp, 16, 0.5, 2, {2.681, 2.318, 2.040, 2.121}},
    {kForward, kLlamaUp, 16, 0.8, 2, {1.798, 1.648, 1.151, 1.144}},
    {kForward, kLlamaUp, 16, 0.9, 2, {1.146, 1.072, 0.753, 0.734}},
    {kForward, kLlamaUp, 16, 0.95, 2, {0.690, 0.654, 0.460, 0.469}},
    {kForward, kLlamaDown, 16, 0.5, 2, {2.776, 2.354, 2.068, 2.150}},
    {kForward, kLlamaDown, 16, 0.8, 2, {1.944, 1.806, 1.329, 1.340}},
    {kForward, kLlamaDown, 16, 0.9, 2, {1.279, 1.203, 0.928, 0.918}},
    {kForward, kLlamaDown, 16, 0.95, 2, {0.770, 0.731, 0.603, 0.606}},
    {kInputGradient, kVitUp, 16, 0.5, 2, {0.714, 0.617, 0.654, 0.645}},
    {kInputGradient, kVitUp, 16, 0.8, 2, {0.532, 0.493, 0.498, 0.492}},
    {kInputGradient, kVitUp, 16, 0.9, 2, {0.374, 0.352, 0.405, 0.404}},
    {kInputGradient, kVitUp, 16, 0.95, 2, {0.259, 0.254, 0.362, 0.365}},
    {kInputGradient, kVitDown, 16, 0.5, 2, {0.733, 0.641, 0.537, 0.547}},
    {kInputGradient, kVitDown, 16, 0.8, 2, {0.519, 0.480, 0.371, 0.374}},
    {kInputGradient, kVitDown, 16, 0.9, 2, {0.366, 0.347, 0.281, 0.266}},
    {kInputGradient, kVitDown, 16, 0.95, 2, {0.273, 0.261, 0.256, 0.247}},
    {kInputGradient, kGpt2Xl, 16, 0.5, 2, {0.979, 0.887, 0.824, 0.864}},
    {kInputGradient, kGpt2Xl, 16, 0.8, 2, {0.707, 0.654, 0.557, 0.563}},
    {kInputGradient, kGpt2Xl, 16, 0.9, 2, {0.483, 0.458, 0.405, 0.408}},
    {kInputGradient, kGpt2Xl, 16, 0.95, 2, {0.312, 0.302, 0.306, 0.306}},
    {kInputGradient, kLlamaUp, 16, 0.5, 2, {2.776, 2.353, 2.156, 2.266}},
    {kInputGradient, kLlamaUp, 16, 0.8, 2, {1.926, 1.777, 1.235, 1.225}},
    {kInputGradient, kLlamaUp, 16, 0.9, 2, {1.270, 1.191, 0.836, 0.829}},
    {kInputGradient, kLlamaUp, 16, 0.95, 2, {0.763, 0.726, 0.545, 0.564}},
    {kInputGradient, kLlamaDown, 16, 0.5, 2, {2.656, 2.293, 2.109, 2.176}},
    {kInputGradient, kLlamaDown, 16, 0.8, 2, {1.784, 1.635, 1.056, 1.114}},
    {kInputGradient, kLlamaDown, 16, 0.9, 2, {1.142, 1.069, 0.667, 0.691}},
    {kInputGradient, kLlamaDown, 16, 0.95, 2, {0.684, 0.650, 0.420, 0.427}},
    {kForward, kVitUp, 32, 0.5, 2, {0.372, 0.334, 0.346, 0.348}},
    {kForward, kVitUp, 32, 0.8, 2, {0.232, 0.218, 0.235, 0.237}},
    {kForward, kVitUp, 32, 0.9, 2, {0.170, 0.163, 0.208, 0.210}},
    {kForward, kVitUp, 32, 0.95, 2, {0.159, 0.161, 0.221, 0.222}},
    {kForward, kGpt2Xl, 32, 0.5, 2, {0.483, 0.435, 0.392, 0.395}},
    {kForward, kGpt2Xl, 32, 0.8, 2, {0.274, 0.256, 0.247, 0.246}},
    {kForward, kGpt2Xl, 32, 0.9, 2, {0.177, 0.168, 0.174, 0.177}},
    {kForward, kGpt2Xl, 32, 0.95, 2, {0.122, 0.119, 0.141, 0.143}},
    {kForward, kLlamaUp, 32, 0.5, 2, {1.400, 1.253, 1.089, 1.126}},
    {kForward, kLlamaUp, 32, 0.8, 2, {0.751, 0.691, 0.607, 0.612}},
    {kForward, kLlamaUp, 32, 0.9, 2, {0.428, 0.399, 0.362, 0.383}},
    {kForward, kLlamaUp, 32, 0.95, 2, {0.253, 0.240, 0.239, 0.241}},
    {kForward, kLlamaDown, 32, 0.5, 2, {1.460, 1.303, 1.233, 1.277}},
    {kForward, kLlamaDown, 32, 0.8, 2, {0.842, 0.779, 0.793, 0.810}},
    {kForward, kLlamaDown, 32, 0.9, 2, {0.521, 0.490, 0.530, 0.538}},
    {kForward, kLlamaDown, 32, 0.95, 2, {0.310, 0.303, 0.367, 0.372}},
    {kInputGradient, kVitDown, 32, 0.5, 2, {0.369, 0.333, 0.340, 0.339}},
    {kInputGradient, kVitDown, 32, 0.8, 2, {0.235, 0.221, 0.233, 0.233}},
    {kInputGradient, kVitDown, 32, 0.9, 2, {0.171, 0.165, 0.211, 0.212}},
    {kInputGradient, kVitDown, 32, 0.95, 2, {0.160, 0.162, 0.221, 0.222}},
    {kInputGradient, kLlamaUp, 32, 0.5, 2, {1.455, 1.298, 1.250, 1.273}},
    {kInputGradient, kLlamaUp, 32, 0.8, 2, {0.832, 0.769, 0.782, 0.800}},
    {kInputGradient, kLlamaUp, 32, 0.9, 2, {0.498, 0.470, 0.521, 0.531}},
    {kInputGradient, kLlamaUp, 32, 0.95, 2, {0.298, 0.285, 0.362, 0.368}},
    {kInputGradient, kLlamaDown, 32, 0.5, 2, {1.397, 1.243, 1.096, 1.119}},
    {kInputGradient, kLlamaDown, 32, 0.8, 2, {0.751, 0.688, 0.600, 0.615}},
    {kInputGradient, kLlamaDown, 32, 0.9, 2, {0.428, 0.399, 0.359, 0.371}},
    {kInputGradient, kLlamaDown, 32, 0.95, 2, {0.252, 0.240, 0.232, 0.241}},
    {kForward, kVitUp, 16, 0.5, 4, {0.817, 0.749, 0.756, 0.762}},
    {kForward, kVitUp, 16, 0.8, 4, {0.578, 0.558, 0.580, 0.596}},
    {kForward, kVitUp, 16, 0.9, 4, {0.412, 0.399, 0.439, 0.445}},
    {kForward, kVitUp, 16, 0.95, 4, {0.354, 0.353, 0.451, 0.458}},
    {kForward, kVitDown, 16, 0.5, 4, {0.815, 0.725, 1.035, 1.037}},
    {kForward, kVitDown, 16, 0.8, 4, {0.633, 0.590, 0.887, 0.878}},
    {kForward, kVitDown, 16, 0.9, 4, {0.565, 0.546, 0.809, 0.805}},
    {kForward, kVitDown, 16, 0.95, 4, {0.442, 0.438, 0.723, 0.726}},
    {kForward, kGpt2Xl, 16, 0.5, 4, {1.106, 1.004, 0.930, 1.023}},
    {kForward, kGpt2Xl, 16, 0.8, 4, {0.730, 0.687, 0.630, 0.666}},
    {kForward, kGpt2Xl, 16, 0.9, 4, {0.481, 0.461, 0.441, 0.445}},
    {kForward, kGpt2Xl, 16, 0.95, 4, {0.315, 0.306, 0.321, 0.329}},
    {kForward, kLlamaUp, 16, 0.5, 4, {3.041, 2.760, 2.696, 2.713}},
    {kForward, kLlamaUp, 16, 0.8, 4, {2.018, 1.887, 1.645, 1.643}},
    {kForward, kLlamaUp, 16, 0.9, 4, {1.294, 1.232, 1.083, 1.093}},
    {kForward, kLlamaUp, 16, 0.95, 4, {0.780, 0.749, 0.679, 0.679}},
    {kForward, kLlamaDown, 16, 0.5, 4, {3.307, 2.968, 2.775, 2.847}},
    {kForward, kLlamaDown, 16, 0.8, 4, {2.344, 2.229, 2.018, 2.049}},
    {kForward, kLlamaDown, 16, 0.9, 4, {1.574, 1.547, 1.441, 1.464}},
    {kForward, kLlamaDown, 16, 0.95, 4, {1.144, 1.130, 0.991, 1.000}},
    {kInputGradient, kVitUp, 16, 0.5, 4, {0.817, 0.741, 1.075, 1.059}},
    {kInputGradient, kVitUp, 16, 0.8, 4, {0.650, 0.613, 0.885, 0.883}},
    {kInputGradient, kVitUp, 16, 0.9, 4, {0.559, 0.548, 0.810, 0.805}},
    {kInputGradient, kVitUp, 16, 0.95, 4, {0.528, 0.527, 0.754, 0.758}},
    {kInputGradient, kVitDown, 16, 0.5, 4, {0.825, 0.762, 0.813, 0.793}},
    {kInputGradient, kVitDown, 16, 0.8, 4, {0.579, 0.549, 0.557, 0.555}},
    {kInputGradient, kVitDown, 16, 0.9, 4, {0.409, 0.395, 0.438, 0.438}},
    {kInputGradient, kVitDown, 16, 0.95, 4, {0.358, 0.359, 0.460, 0.463}},
    {kInputGradient, kGpt2Xl, 16, 0.5, 4, {1.225, 1.113, 1.246, 1.259}},
    {kInputGradient, kGpt2Xl, 16, 0.8, 4, {0.869, 0.836, 0.940, 0.946}},
    {kInputGradient, kGpt2Xl, 16, 0.9, 4, {0.706, 0.708, 0.750, 0.746}},
    {kInputGradient, kGpt2Xl, 16, 0.95, 4, {0.590, 0.587, 0.645, 0.640}},
    {kInputGradient, kLlamaUp, 16, 0.5, 4, {3.370, 3.047, 2.854, 2.911}},
    {kInputGradient, kLlamaUp, 16, 0.8, 4, {2.375, 2.266, 2.056, 2.108}},
    {kInputGradient, kLlamaUp, 16, 0.9, 4, {1.607, 1.551, 1.465, 1.487}},
    {kInputGradient, kLlamaUp, 16, 0.95, 4, {1.087, 1.076, 0.996, 1.009}},
    {kInputGradient, kLlamaDown, 16, 0.5, 4, {3.127, 2.891, 2.801, 2.834}},
    {kInputGradient, kLlamaDown, 16, 0.8, 4, {2.048, 1.926, 1.694, 1.722}},
    {kInputGradient, kLlamaDown, 16, 0.9, 4, {1.309, 1.246, 1.087, 1.109}},
    {kInputGradient, kLlamaDown, 16, 0.95, 4, {0.783, 0.754, 0.688, 0.690}},
};
// clang-format on

}  // namespace

// One rate for all shapes cannot be best in each: these bounds are what the fit reaches (1.14 times
// the best in one cell, 1.04 % more than it in the mean), rounded up.
TEST_CASE("what is packed was measured to be fastest, or near it") {
  double losses = 0;
  for (const Measured& m : kMeasured) {
    CAPTURE(m.gradient);
    CAPTURE(m.size.tokens);
    CAPTURE(m.size.rows);
    CAPTURE(m.block);
    CAPTURE(m.sparsity);
    CAPTURE(m.element_bytes);
    const BsrPacking packing = packing_of({m.size.tokens, m.size.rows, m.size.cols, m.block,
                                           1 - m.sparsity, m.element_bytes, m.gradient});
    CAPTURE(name_of(packing));
    const double least = *std::ranges::min_element(m.times);
    const double time = m.times[static_cast<std::size_t>(packing)];
    CHECK(time <= 1.15 * least);
    losses += time / least - 1;
  }
  CHECK(losses / static_cast<double>(std::size(kMeasured)) < 0.011);
}

TEST_CASE("the input is packed where its tiles are loaded for many rows of blocks") {
  for (const double density : {0.5, 0.1}) {
    CHECK(packs_input(packing_of({8192, 14336, 4096, 16, density})));
    CHECK(packs_input(packing_of({8192, 14336, 4096, 16, density, /*element_bytes=*/4})));
    CHECK_FALSE(packs_input(packing_of({50432, 768, 3072, 32, density})));  // for few
  }
  CHECK(packing_of({50432, 3072, 768, 32, 0.05}) == BsrPacking::kNone);  // device memory binds
}

TEST_CASE("blocks are packed where many tiles of tokens load them") {
  CHECK(packs_values(packing_of({8192, 14336, 4096, 16, 0.5})));
  CHECK(packs_values(packing_of({50432, 768, 3072, 32, 0.5})));
  CHECK_FALSE(packs_values(packing_of({256, 14336, 4096, 16, 0.5})));
}

TEST_CASE("tiles are tall where the output is narrow, or where it is asked for") {
  for (const Size& s : {kVitUp, kVitDown, kGpt2Xl, kLlamaUp, kLlamaDown}) {
    CAPTURE(s.tokens);
    CAPTURE(s.rows);
    for (const bool gradient : {false, true}) {
      for (const double density : {0.05, 0.5}) {
        const Problem problem{s.tokens, s.rows, s.cols, 32, density, 2, gradient};
        const bool narrow = (gradient ? s.cols : s.rows) <= 2048;
        CHECK(tiling_of(problem).tile == (narrow ? BsrTile::kTall : BsrTile::kTogether));
        const BsrTiling tall = tiling_of(problem, /*tall=*/true);
        CHECK(tall.tile == BsrTile::kTall);
        CHECK(tall.tokens == 128);
        CHECK(tall.order.token_tiles == (s.tokens + 127) / 128);
        CHECK(tiling_of(problem, /*tall=*/false).tile == BsrTile::kTogether);
      }
    }
  }
}

TEST_CASE("only b = 32 in bfloat16 has tall tiles") {
  CHECK(tiling_of({8192, 4096, 1024, 16, 0.5}, /*tall=*/true).tile == BsrTile::kTogether);
  CHECK(tiling_of({8192, 4096, 1024, 64, 0.5}, /*tall=*/true).tile == BsrTile::kTogether);
  CHECK(tiling_of({8192, 4096, 1024, 32, 0.5, 4}, /*tall=*/true).tile == BsrTile::kTogether);
}

TEST_CASE("rows of 128 bytes are never packed") {
  for (const std::int64_t block : {64, 128})
    CHECK(packing_of({8192, 14336, 4096, block, 0.5}) == BsrPacking::kNone);
  CHECK(packing_of({8192, 14336, 4096, 32, 0.5, /*element_bytes=*/4}) == BsrPacking::kNone);
}

}  // namespace hew::test
