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

// Milliseconds of a product with nothing, the blocks, the input and both packed; 0: not measured.
struct Measured {
  bool gradient;
  Size size;
  std::int64_t block;
  double sparsity;
  std::int64_t element_bytes;
  double times[4];
};
// Those of an H100 that are nearest to each other.
// clang-format off
constexpr Measured kMeasured[] = {
    {kForward, kVitUp, 16, 0.9, 2, {0.453, 0, 0.369, 0.302}},
    {kForward, kVitUp, 16, 0.95, 2, {0.311, 0.283, 0.288, 0.260}},
    {kForward, kVitDown, 16, 0.5, 2, {0.951, 0, 0.816, 0.662}},
    {kForward, kVitDown, 16, 0.8, 2, {0.739, 0, 0.669, 0.556}},
    {kForward, kVitDown, 16, 0.9, 2, {0.516, 0.421, 0.518, 0.445}},
    {kForward, kVitDown, 16, 0.95, 2, {0.318, 0.273, 0.404, 0.374}},
    {kForward, kGpt2Xl, 16, 0.95, 2, {0.354, 0, 0.268, 0.216}},
    {kForward, kLlamaUp, 16, 0.5, 2, {3.569, 0, 2.195, 1.759}},
    {kInputGradient, kVitUp, 16, 0.5, 2, {0.953, 0, 0.803, 0.658}},
    {kInputGradient, kVitUp, 16, 0.8, 2, {0.746, 0, 0.665, 0.555}},
    {kInputGradient, kVitUp, 16, 0.9, 2, {0.500, 0.409, 0.514, 0.440}},
    {kInputGradient, kVitUp, 16, 0.95, 2, {0.317, 0.272, 0.405, 0.384}},
    {kInputGradient, kVitDown, 16, 0.9, 2, {0.451, 0, 0.370, 0.301}},
    {kInputGradient, kVitDown, 16, 0.95, 2, {0.308, 0.279, 0.290, 0.261}},
    {kInputGradient, kGpt2Xl, 16, 0.5, 2, {1.396, 0, 0.981, 0.805}},
    {kInputGradient, kGpt2Xl, 16, 0.8, 2, {1.027, 0, 0.761, 0.630}},
    {kInputGradient, kGpt2Xl, 16, 0.9, 2, {0.683, 0, 0.546, 0.460}},
    {kInputGradient, kGpt2Xl, 16, 0.95, 2, {0.424, 0, 0.385, 0.335}},
    {kInputGradient, kLlamaUp, 16, 0.8, 2, {2.894, 0, 1.869, 1.520}},
    {kInputGradient, kLlamaUp, 16, 0.9, 2, {1.870, 0, 1.231, 1.037}},
    {kInputGradient, kLlamaUp, 16, 0.95, 2, {1.092, 0, 0.775, 0.665}},
    {kForward, kVitUp, 32, 0.5, 2, {0.418, 0.356, 0.359, 0.351}},
    {kForward, kVitUp, 32, 0.8, 2, {0.256, 0.228, 0.244, 0.231}},
    {kForward, kVitUp, 32, 0.9, 2, {0.183, 0, 0.212, 0.210}},
    {kForward, kVitUp, 32, 0.95, 2, {0.161, 0, 0.223, 0.229}},
    {kForward, kVitDown, 32, 0.5, 2, {0.457, 0.381, 0.552, 0.532}},
    {kForward, kVitDown, 32, 0.8, 2, {0.292, 0.254, 0.416, 0.411}},
    {kForward, kVitDown, 32, 0.9, 2, {0.202, 0, 0.371, 0.367}},
    {kForward, kVitDown, 32, 0.95, 2, {0.163, 0, 0.326, 0.329}},
    {kForward, kGpt2Xl, 32, 0.5, 2, {0.552, 0, 0.452, 0.447}},
    {kForward, kGpt2Xl, 32, 0.8, 2, {0.319, 0.275, 0.265, 0.265}},
    {kForward, kGpt2Xl, 32, 0.9, 2, {0.199, 0.177, 0.177, 0.173}},
    {kForward, kGpt2Xl, 32, 0.95, 2, {0.132, 0, 0.145, 0.143}},
    {kForward, kLlamaUp, 32, 0.5, 2, {1.601, 0, 1.296, 1.292}},
    {kForward, kLlamaUp, 32, 0.8, 2, {0.894, 0, 0.743, 0.737}},
    {kForward, kLlamaUp, 32, 0.9, 2, {0.517, 0, 0.430, 0.426}},
    {kForward, kLlamaUp, 32, 0.95, 2, {0.295, 0.261, 0.261, 0.256}},
    {kForward, kLlamaDown, 32, 0.5, 2, {1.782, 0, 1.519, 1.496}},
    {kForward, kLlamaDown, 32, 0.8, 2, {1.077, 0.905, 0.942, 0.940}},
    {kForward, kLlamaDown, 32, 0.9, 2, {0.645, 0.544, 0.604, 0.600}},
    {kForward, kLlamaDown, 32, 0.95, 2, {0.368, 0.327, 0.402, 0.400}},
    {kInputGradient, kVitUp, 32, 0.5, 2, {0.457, 0.377, 0.552, 0.532}},
    {kInputGradient, kVitUp, 32, 0.8, 2, {0.294, 0.255, 0.414, 0.409}},
    {kInputGradient, kVitUp, 32, 0.9, 2, {0.219, 0, 0.379, 0.371}},
    {kInputGradient, kVitUp, 32, 0.95, 2, {0.174, 0, 0.337, 0.338}},
    {kInputGradient, kVitDown, 32, 0.5, 2, {0.413, 0.351, 0.352, 0.346}},
    {kInputGradient, kVitDown, 32, 0.8, 2, {0.263, 0.233, 0.249, 0.228}},
    {kInputGradient, kVitDown, 32, 0.9, 2, {0.186, 0, 0.215, 0.214}},
    {kInputGradient, kVitDown, 32, 0.95, 2, {0.162, 0, 0.224, 0.224}},
    {kInputGradient, kGpt2Xl, 32, 0.5, 2, {0.636, 0.521, 0.622, 0.614}},
    {kInputGradient, kGpt2Xl, 32, 0.8, 2, {0.384, 0.327, 0.420, 0.419}},
    {kInputGradient, kGpt2Xl, 32, 0.9, 2, {0.254, 0.228, 0.312, 0.310}},
    {kInputGradient, kGpt2Xl, 32, 0.95, 2, {0.182, 0, 0.265, 0.262}},
    {kInputGradient, kLlamaUp, 32, 0.5, 2, {1.781, 0, 1.520, 1.518}},
    {kInputGradient, kLlamaUp, 32, 0.8, 2, {1.060, 0.891, 0.936, 0.933}},
    {kInputGradient, kLlamaUp, 32, 0.9, 2, {0.630, 0.523, 0.602, 0.597}},
    {kInputGradient, kLlamaUp, 32, 0.95, 2, {0.359, 0.320, 0.401, 0.398}},
    {kInputGradient, kLlamaDown, 32, 0.5, 2, {1.593, 0, 1.299, 1.292}},
    {kInputGradient, kLlamaDown, 32, 0.8, 2, {0.896, 0, 0.743, 0.739}},
    {kInputGradient, kLlamaDown, 32, 0.9, 2, {0.516, 0, 0.427, 0.422}},
    {kInputGradient, kLlamaDown, 32, 0.95, 2, {0.293, 0.259, 0.257, 0.254}},
    {kForward, kLlamaUp, 16, 0.5, 4, {3.968, 0, 3.191, 2.946}},
    {kInputGradient, kLlamaUp, 16, 0.5, 4, {4.242, 0, 3.678, 3.437}},
    {kForward, kLlamaUp, 16, 0.95, 4, {1.053, 0, 0.883, 0.825}},
    {kInputGradient, kLlamaUp, 16, 0.95, 4, {1.398, 0, 0, 1.182}},
};
// clang-format on

}  // namespace

TEST_CASE("what is packed was measured to be fastest") {
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
    double least = m.times[0];
    for (const double time : m.times) least = time > 0 ? std::min(least, time) : least;
    CHECK(m.times[static_cast<std::size_t>(packing)] <= 1.03 * least);
  }
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
        const bool narrow = (gradient ? s.cols : s.rows) <= 3072;
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
