#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <type_traits>
#include <vector>

#include "kernels/bsr_routes.h"
#include "kernels/bsr_schedule.h"
#include "tests/kernels/bsr_case.h"
#include "tests/support/sizes.h"

namespace hew::test {
namespace {

void check_forward(const Case& c, Activation activation, bool aligned) {
  CAPTURE(kernels::name_of(activation));
  const Outputs wanted = cpu_forward(c, activation);
  const Outputs out = forward(c, activation, aligned);
  // act' is below 1.2; the activation and the rounding to dtype cost a few units more.
  const Tensor& sums = activation == Activation::kNone ? wanted.y : wanted.pre;
  const double absolute = 1.2 * (c.tolerance(c.pattern.cols) + c.of_rounding(sums));
  HEW_CHECK_CLOSE(on_cpu(out.y), wanted.y, 8 * unit_roundoff(c.dtype), absolute);
  if (activation != Activation::kNone)
    HEW_CHECK_CLOSE(on_cpu(out.pre), wanted.pre, unit_roundoff(c.dtype), absolute);
}

// The largest Σ_m |dx[m, k]|.
double largest_column(const Tensor& dx) {
  std::vector<double> sums(static_cast<std::size_t>(dx.size(1)));
  const std::vector<double> values = dx.to_vector<double>();
  for (std::size_t i = 0; i < values.size(); ++i) sums[i % sums.size()] += std::abs(values[i]);
  return *std::max_element(sums.begin(), sums.end());
}

// x stands for what an activation was given.
void check_input_gradient(const Case& c, Activation activation, bool aligned) {
  CAPTURE(kernels::name_of(activation));
  Tensor wanted = cpu_input_gradient(c);
  const double u = unit_roundoff(c.dtype);
  const double tolerance = c.tolerance(c.pattern.rows);
  HEW_CHECK_CLOSE(on_cpu(input_gradient(c, Activation::kNone, aligned).dx), wanted, u, tolerance);
  if (activation == Activation::kNone)
    return;
  Tensor dbias = Tensor::empty({c.pattern.cols}, DType::kFloat64, wanted.stream());
  kernels::activation_backward(
      {.activation = activation, .x = c.x.wide, .dy = wanted, .dx = wanted, .dbias = dbias},
      dbias.stream());
  const InputGradient out = input_gradient(c, activation, aligned);
  // act' is below 1.2; dy·W may be rounded before it is multiplied with that.
  HEW_CHECK_CLOSE(on_cpu(out.dx), wanted, 3 * u, 1.2 * tolerance);
  const auto tokens = static_cast<double>(c.x.wide.size(0));
  const double of_sums = tokens * unit_roundoff(accumulator_of(c.dtype));
  HEW_CHECK_CLOSE(on_cpu(out.dbias), dbias, 0,
                  1.2 * tokens * tolerance + (2 * u + of_sums) * largest_column(wanted));
}

void check_weight_gradient(const Case& c, bool aligned) {
  Tensor wanted = cpu_weight_gradient(c);
  Tensor dvalues = weight_gradient(c, aligned);
  const double tolerance = c.tolerance(c.x.wide.size(0));
  HEW_CHECK_CLOSE(on_cpu(dvalues), wanted, 0, tolerance);
  CHECK(same_bytes(on_cpu(dvalues), with_zero_padding(on_cpu(dvalues), c.pattern)));
  kernels::bsr_weight_gradient({.dy = c.dy.gpu,
                                .x = c.x.gpu,
                                .index = c.uploaded.index(),
                                .dvalues = dvalues,
                                .accumulate = true},
                               gpu_stream());
  kernels::bsr_weight_gradient({.dy = c.dy.wide,
                                .x = c.x.wide,
                                .index = c.pattern.index(),
                                .dvalues = wanted,
                                .accumulate = true},
                               wanted.stream());
  HEW_CHECK_CLOSE(on_cpu(dvalues), wanted, 0, 4 * tolerance);
}

void check_all(const Case& c, bool aligned = true) {
  check_forward(c, Activation::kNone, aligned);
  check_input_gradient(c, Activation::kGeluTanh, aligned);
  check_weight_gradient(c, aligned);
}

// How the last row and column of blocks end: at the matrix's edge, one element or an odd number of
// them in, or a multiple of 16 bytes in, which TMA can move.
enum class Edge { kWhole, kOdd, kMovable };

// A grid of 3 × 4 blocks.
std::vector<BlockPattern> patterns(std::int64_t b, Edge edge) {
  const std::int64_t rows = edge == Edge::kWhole ? 3 * b : 2 * b + (edge == Edge::kOdd ? 1 : 8);
  const std::int64_t cols =
      edge == Edge::kWhole ? 4 * b : 3 * b + (edge == Edge::kOdd ? b / 2 + 1 : (b + 8) / 16 * 8);
  std::vector<BlockPattern> out;
  for (const double density : {0.0, 0.5, 1.0}) {
    if (density == 1 && small_sizes())
      continue;
    out.push_back(random_pattern(rows, cols, b, density, /*seed=*/7));
  }
  out.push_back(one_block(rows, cols, b, 2, 3));
  return out;
}

// Patterns of several tiles and groups of rows, whose widths TMA can move.
std::vector<BlockPattern> large_patterns(std::int64_t b) {
  std::vector<BlockPattern> out;
  for (const double density : {0.05, 0.3, 1.0}) {
    if (density == 1 && small_sizes())
      continue;
    out.push_back(random_pattern(1024, 1536, b, density, 9));
  }
  out.push_back(random_pattern(1024 - 24, 1536 - 8, b, 0.3, 10));  // ragged
  // One row and one column have eight times as many blocks as the others.
  out.push_back(make_pattern(1024, 2048, b, [](std::int64_t r, std::int64_t c) {
    return r == 3 || c == 5 || (r + c) % 8 == 0;
  }));
  out.push_back(one_block(1024, 1536, b, 4, 7));
  return out;
}

}  // namespace

// Cases of their own, so that a tool under which they are slow can run them side by side.
template <std::size_t i>
using TypeNumber = std::integral_constant<std::size_t, i>;

TEST_CASE_TEMPLATE("block-sparse products on a GPU agree with the CPU's for every block size",
                   Number, TypeNumber<0>, TypeNumber<1>, TypeNumber<2>, TypeNumber<3>) {
  // With small sizes one for every kernel, and both ends of those that take several.
  constexpr std::array<std::int64_t, 9> kSmall{8, 16, 24, 32, 40, 64, 96, 112, 128};
  constexpr Type kType = kTypes[Number::value];
  static_assert(kTypes.size() == 4);
  CAPTURE(kType.name());
  for (std::int64_t b = 8; b <= 128; b += 8) {
    CAPTURE(b);
    if (small_sizes() && std::ranges::find(kSmall, b) == kSmall.end())
      continue;
    for (const Edge edge : {Edge::kWhole, Edge::kOdd, Edge::kMovable}) {
      CAPTURE(static_cast<int>(edge));
      for (const BlockPattern& pattern : patterns(b, edge)) {
        CAPTURE(pattern.nnzb());
        check_all(Case(pattern, 70, kType));
      }
    }
  }
}

TEST_CASE("block-sparse products on a GPU take any number of tokens") {
  for (const Type& type : kTypes) {
    CAPTURE(type.name());
    for (const std::int64_t tokens : {0, 1, 7, 128, 257, 521, 1031, 4099}) {
      CAPTURE(tokens);
      if (small_sizes() && tokens > 521)  // which are split already
        continue;
      check_all(Case(random_pattern(97, 131, 16, 0.5, 8), tokens, type));
      check_all(Case(random_pattern(64, 192, 32, 0.5, 8), tokens, type));
      check_all(Case(random_pattern(128, 256, 128, 0.5, 8), tokens, type));
    }
  }
}

template <std::int64_t b>
using BlockSize = std::integral_constant<std::int64_t, b>;

TEST_CASE_TEMPLATE("block-sparse products on a Hopper agree with the CPU's over many tiles", Block,
                   BlockSize<16>, BlockSize<32>, BlockSize<64>, BlockSize<128>) {
  constexpr std::int64_t b = Block::value;
  CAPTURE(b);
  for (const Type& type : kHopperTypes) {
    CAPTURE(type.name());
    for (const BlockPattern& pattern : large_patterns(b)) {
      CAPTURE(pattern.nnzb());
      check_all(Case(pattern, cut(1000, 300), type));
    }
    // Rows that end inside a tile's first 32 or 64 tokens, inside its last, and one behind a tile.
    for (const std::int64_t tokens : {1, 40, 200, 513}) {
      CAPTURE(tokens);
      check_all(Case(large_patterns(b)[1], tokens, type));
    }
  }
}

// More tiles than multiprocessors: thread blocks make several, and the rows differ in length.
TEST_CASE("block-sparse products on a Hopper agree with the CPU's over many rounds") {
  for (const Type& type : kHopperTypes) {
    CAPTURE(type.name());
    for (const std::int64_t b : {16, 32, 64, 128}) {
      CAPTURE(b);
      for (const double density : {0.04, 0.6}) {
        CAPTURE(density);
        check_all(Case(random_pattern(10 * 128, 6 * 128, b, density, 12), cut(9000, 600), type));
      }
    }
  }
}

// Tiles made alone where few other blocks are live, else together.
TEST_CASE("block-sparse products on a Hopper make a long row in parts") {
  for (const Type& type : kHopperTypes) {
    CAPTURE(type.name());
    for (const std::int64_t b : {64, 128}) {
      CAPTURE(b);
      for (const std::int64_t share : {1, 9}) {
        CAPTURE(share);
        const auto live = [share](std::int64_t across, std::int64_t along) {
          return (across * 37 + along * 61 + across * along * 13) % 101 <
                 (across == 7 ? 90 : share);
        };
        const std::int64_t few = 12 * b - 8;
        const std::int64_t many = 7168 + 8;
        const BlockPattern row = make_pattern(few, many, b, live);
        const BlockPattern column =
            make_pattern(many, few, b, [&](std::int64_t r, std::int64_t c) { return live(c, r); });
        const Stream cpu = make_cpu_stream();
        REQUIRE(kernels::BsrSchedule(row.index(), cpu).by_rows.together.cut_rows == 1);
        REQUIRE(kernels::BsrSchedule(row.index(), cpu).by_rows.alone.cut_rows == 1);
        REQUIRE(kernels::BsrSchedule(column.index(), cpu).by_columns.together.cut_rows == 1);
        for (const BlockPattern& pattern : {row, column}) {
          const Case c(pattern, test::cut(601, 70), type);
          check_all(c);
          // Whoever comes last, the sums are the same.
          const Outputs once = forward(c, Activation::kGelu, true);
          for (int i = 0; i < 3; ++i) {
            CHECK(test::same_bytes(test::on_cpu(forward(c, Activation::kGelu, true).y),
                                   test::on_cpu(once.y)));
          }
        }
      }
    }
  }
}

TEST_CASE("the weight gradient on a GPU cuts, orders and adds its work without a loss") {
  auto check = [](const BlockPattern& pattern, std::int64_t tokens) {
    for (const Type& type : kHopperTypes) {
      CAPTURE(type.name());
      CAPTURE(pattern.block);
      CAPTURE(pattern.rows);
      CAPTURE(pattern.cols);
      CAPTURE(pattern.nnzb());
      CAPTURE(tokens);
      check_weight_gradient(Case(pattern, tokens, type), /*aligned=*/true);
    }
  };
  const std::vector<std::int64_t> lengths =
      test::small_sizes() ? std::vector<std::int64_t>{63, 500}
                          : std::vector<std::int64_t>{1, 63, 64, 65, 500, 3000};
  for (const std::int64_t b : {16, 32, 64, 128}) {
    for (const std::int64_t tokens : lengths) {
      for (const double density : {0.1, 0.5, 1.0}) {
        check(random_pattern(2 * b + 8, 3 * b + b / 2 + 8, b, density, 11), tokens);
        check(random_pattern(6 * b, 5 * b + 24, b, density, 12), tokens);
      }
    }
    for (const double density : {0.05, 0.2, 0.5}) {
      check(random_pattern(1024, 1536, b, density, 13), test::cut(3000, 200));
      check(random_pattern(1536, 1024, b, density, 13), test::cut(520, 130));
    }
    check(make_pattern(8 * b, 24 * b, b,
                       [](std::int64_t r, std::int64_t c) { return r == 3 || c % 8 == 2; }),
          1000);  // a row 8 times as long
    check(make_pattern(b, 17 * b, b, [](std::int64_t, std::int64_t) { return true; }), 300);
    check(make_pattern(19 * b, b, b, [](std::int64_t r, std::int64_t) { return r % 3 > 0; }), 300);
  }
}

TEST_CASE("block-sparse products on a GPU take any alignment") {
  for (const Type& type : kTypes) {
    CAPTURE(type.name());
    for (const std::int64_t b : {8, 16, 32, 64, 96, 128}) {
      CAPTURE(b);
      check_all(Case(random_pattern(2 * b, 3 * b, b, 1, 8), cut(200, 70), type),
                /*aligned=*/false);
    }
  }
}

TEST_CASE("bsr_forward on a GPU ends with bias and activation") {
  for (const Type& type : kTypes) {
    CAPTURE(type.name());
    for (const std::int64_t b : {8, 16, 32, 64, 128}) {
      CAPTURE(b);
      const Case c(random_pattern(2 * b + 8, 4 * b, b, 0.5, 8), 77, type);
      for (const Activation kind :
           {Activation::kRelu, Activation::kGelu, Activation::kGeluTanh, Activation::kSilu}) {
        check_forward(c, kind, /*aligned=*/true);
      }
    }
  }
}

TEST_CASE("bsr_forward on a GPU does without bias and pre") {
  const Stream cpu = make_cpu_stream();
  const Stream& gpu = gpu_stream();
  for (const Type& type : kHopperTypes) {
    CAPTURE(type.name());
    for (const std::int64_t b : {16, 32, 64, 128}) {
      CAPTURE(b);
      const Case c(random_pattern(6 * b, 5 * b, b, 0.5, 8), 300, type);
      Tensor wanted = Tensor::empty(c.dy.wide.shape(), DType::kFloat64, cpu);
      kernels::bsr_forward(
          {.x = c.x.wide, .values = c.values.wide, .index = c.pattern.index(), .y = wanted}, cpu);
      Tensor y = poisoned(c.dy.gpu.shape(), c.dtype, gpu);
      kernels::bsr_forward(
          {.x = c.x.gpu, .values = c.values.gpu, .index = c.uploaded.index(), .y = y}, gpu);
      HEW_CHECK_CLOSE(on_cpu(y), wanted, unit_roundoff(c.dtype), c.tolerance(c.pattern.cols));
    }
  }
}

TEST_CASE("bsr_input_gradient on a GPU goes back through every activation") {
  for (const Type& type : kTypes) {
    CAPTURE(type.name());
    for (const std::int64_t b : {8, 16, 32, 64, 128}) {
      CAPTURE(b);
      for (const Activation kind :
           {Activation::kRelu, Activation::kGelu, Activation::kGeluTanh, Activation::kSilu}) {
        check_input_gradient(Case(random_pattern(3 * b, 4 * b + 8, b, 0.4, 8), 300, type), kind,
                             /*aligned=*/true);
      }
    }
  }
}

TEST_CASE("folded block-sparse products on a GPU go through dense ones where those are cheaper") {
  for (const Type& type : {kFloat32, kTf32, kBFloat16}) {
    CAPTURE(type.name());
    Case c(random_pattern(1000, 1528, 16, 1, 8), 1001, type);
    let_fold(true);
    c.folds = true;
    const kernels::BsrIndex index = c.uploaded.index();
    for (const auto product : {kernels::BsrProduct::kForward, kernels::BsrProduct::kInputGradient,
                               kernels::BsrProduct::kWeightGradient}) {
      REQUIRE(kernels::cheapest_route(kernels::problem_of(product, c.x.gpu, index, false)) ==
              kernels::BsrRoute::kFolded);
    }
    check_all(c);
    check_forward(c, Activation::kGelu, /*aligned=*/true);
  }
}

TEST_CASE("block-sparse products on a GPU repeat bit for bit") {
  for (const Type& type : kTypes) {
    CAPTURE(type.name());
    const Case c(random_pattern(256, 384, 64, 0.5, 8), cut(3000, 521), type);
    CHECK(same_bytes(on_cpu(forward(c, Activation::kGelu, true).y),
                     on_cpu(forward(c, Activation::kGelu, true).y)));
    CHECK(same_bytes(on_cpu(weight_gradient(c, true)), on_cpu(weight_gradient(c, true))));
    const InputGradient once = input_gradient(c, Activation::kSilu, true);
    const InputGradient again = input_gradient(c, Activation::kSilu, true);
    CHECK(same_bytes(on_cpu(once.dx), on_cpu(again.dx)));
    CHECK(same_bytes(on_cpu(once.dbias), on_cpu(again.dbias)));
  }
}

TEST_CASE("on a GPU an infinity beside the edge stays out of the padding") {
  for (const Type& type : kTypes) {
    for (const std::int64_t tokens : {9, 2000}) {  // whole, and split over the tokens
      CAPTURE(type.name());
      CAPTURE(tokens);
      Case c(random_pattern(17, 19, 16, 1, 8), tokens, type);
      c.x.wide.data<double>()[18] = INFINITY;
      c.dy.wide.data<double>()[16] = INFINITY;
      c.x = gpu_input(c.x.wide, type.dtype);
      c.dy = gpu_input(c.dy.wide, type.dtype);
      const Tensor dvalues = on_cpu(weight_gradient(c, true));
      CHECK(same_bytes(dvalues, with_zero_padding(dvalues, c.pattern)));
    }
  }
}

TEST_CASE(
    "an infinity beside an edge that TMA moves stays out of the padding, and of what is added") {
  for (const Type& type : kHopperTypes) {
    CAPTURE(type.name());
    for (const std::int64_t b : {16, 32, 64, 128}) {
      for (const std::int64_t tokens : {9, 4000}) {  // whole, and split over the tokens
        CAPTURE(b);
        CAPTURE(tokens);
        Case c(random_pattern(b + 8, 2 * b + 16, b, 1, 8), tokens, type);
        c.x.wide.data<double>()[2 * b + 15] = INFINITY;
        c.dy.wide.data<double>()[b + 7] = INFINITY;
        c.x = gpu_input(c.x.wide, type.dtype);
        c.dy = gpu_input(c.dy.wide, type.dtype);
        Tensor dvalues = weight_gradient(c, true);
        const Tensor once = on_cpu(dvalues);
        CHECK(same_bytes(once, with_zero_padding(once, c.pattern)));
        kernels::bsr_weight_gradient({.dy = c.dy.gpu,
                                      .x = c.x.gpu,
                                      .index = c.uploaded.index(),
                                      .dvalues = dvalues,
                                      .accumulate = true},
                                     gpu_stream());
        const Tensor twice = on_cpu(dvalues);
        CHECK(same_bytes(twice, with_zero_padding(twice, c.pattern)));
      }
    }
  }
}

}  // namespace hew::test
