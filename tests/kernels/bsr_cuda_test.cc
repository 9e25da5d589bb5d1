#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "kernels/bsr.h"
#include "kernels/bsr_routes.h"
#include "kernels/bsr_schedule.h"
#include "kernels/product_settings.h"
#include "tests/support/block_pattern.h"
#include "tests/support/compare.h"
#include "tests/support/gpu_input.h"
#include "tests/support/sizes.h"

namespace hew {
namespace {

using kernels::Activation;
using test::BlockPattern;
using test::make_pattern;
using test::random_pattern;

// What is multiplied: values of a dtype, of float32 perhaps as tf32.
struct Type {
  DType dtype = DType::kFloat32;
  bool tf32 = false;
  // Values that are exact in this dtype are exact factors: products err by their sums alone.
  DType exact = dtype;

  std::string_view name() const { return tf32 ? "tf32" : name_of(dtype); }
};

constexpr Type kFloat32{.dtype = DType::kFloat32};
constexpr Type kBFloat16{.dtype = DType::kBFloat16};
constexpr Type kTf32{.dtype = DType::kFloat32, .tf32 = true, .exact = DType::kBFloat16};
constexpr std::array kTypes{kFloat32, kTf32, Type{.dtype = DType::kFloat64}, kBFloat16};
constexpr std::array kHopperTypes{kBFloat16, kTf32};

void let_tf32(bool tf32) {
  const Stream& gpu = test::gpu_stream();
  gpu.state->get<kernels::ProductSettings>(gpu).tf32 = tf32;
}

// Whether dense products may take the place of the kernels under test.
void let_fold(bool fold) {
  const Stream& gpu = test::gpu_stream();
  gpu.state->get<kernels::BsrSettings>(gpu).folding =
      fold ? kernels::BsrFolding::kAuto : kernels::BsrFolding::kOwn;
}

struct Case {
  BlockPattern pattern;
  test::UploadedPattern uploaded;
  DType dtype;
  test::GpuInput x;
  test::GpuInput dy;
  test::GpuInput values;
  test::GpuInput bias;

  Case(const BlockPattern& p, std::int64_t tokens, const Type& type)
      : pattern(p),
        uploaded(p, test::gpu_stream()),
        dtype(type.dtype),
        x(input(random({tokens, p.cols}, 1), type)),
        dy(input(random({tokens, p.rows}, 2), type)),
        values(input(with_zero_padding(random(p.values_shape(), 3), p), type)),
        bias(input(random({p.rows}, 4), type)) {
    let_fold(false);
    let_tf32(type.tf32);
  }

  static Tensor random(const Shape& shape, std::uint64_t seed) {
    return test::random_tensor(shape, DType::kFloat64, make_cpu_stream(), seed);
  }
  static test::GpuInput input(const Tensor& values_of, const Type& type) {
    return test::gpu_input(test::rounded(values_of, type.exact), type.dtype);
  }

  // Of a sum of `depth` products of normal values in the accumulator's precision: |sum| and all
  // partial sums stay below 8·√depth, and each addition errs by a rounding of that.
  double tolerance(std::int64_t depth) const {
    const auto terms = static_cast<double>(depth) + 2;
    return terms * test::unit_roundoff(accumulator_of(dtype)) * 8 * std::sqrt(terms);
  }
};

struct Outputs {
  Tensor y;
  Tensor pre;
};

Outputs forward(const Case& c, Activation activation, bool aligned) {
  const Stream& gpu = test::gpu_stream();
  Outputs out{.y = test::poisoned(c.dy.gpu.shape(), c.dtype, gpu),
              .pre = test::poisoned(c.dy.gpu.shape(), c.dtype, gpu)};
  if (!aligned)
    out = {.y = test::misaligned(out.y), .pre = test::misaligned(out.pre)};
  kernels::bsr_forward({.x = aligned ? c.x.gpu : test::misaligned(c.x.gpu),
                        .values = aligned ? c.values.gpu : test::misaligned(c.values.gpu),
                        .index = c.uploaded.index(),
                        .bias = c.bias.gpu,
                        .activation = activation,
                        .y = out.y,
                        .pre = out.pre},
                       gpu);
  return out;
}

void check_forward(const Case& c, Activation activation, bool aligned) {
  CAPTURE(kernels::name_of(activation));
  const Stream cpu = make_cpu_stream();
  Tensor y = Tensor::empty(c.dy.wide.shape(), DType::kFloat64, cpu);
  Tensor pre = Tensor::empty(y.shape(), DType::kFloat64, cpu);
  kernels::bsr_forward({.x = c.x.wide,
                        .values = c.values.wide,
                        .index = c.pattern.index(),
                        .bias = c.bias.wide,
                        .activation = activation,
                        .y = y,
                        .pre = pre},
                       cpu);
  const Outputs out = forward(c, activation, aligned);
  // act' is below 1.2; the activation and the rounding to dtype cost a few units more.
  const double absolute = 1.2 * c.tolerance(c.pattern.cols);
  HEW_CHECK_CLOSE(test::on_cpu(out.y), y, 8 * test::unit_roundoff(c.dtype), absolute);
  if (activation != Activation::kNone)
    HEW_CHECK_CLOSE(test::on_cpu(out.pre), pre, test::unit_roundoff(c.dtype), absolute);
}

struct InputGradient {
  Tensor dx;
  Tensor dbias;  // undefined without an activation
};

InputGradient input_gradient(const Case& c, Activation activation, bool aligned) {
  const Stream& gpu = test::gpu_stream();
  auto placed = [&](const Tensor& t) { return aligned ? t : test::misaligned(t); };
  InputGradient out{.dx = placed(test::poisoned(c.x.gpu.shape(), c.dtype, gpu)), .dbias = {}};
  if (activation != Activation::kNone)
    out.dbias = test::poisoned({c.pattern.cols}, accumulator_of(c.dtype), gpu);
  const Tensor pre = placed(c.x.gpu);
  kernels::bsr_input_gradient({.dy = placed(c.dy.gpu),
                               .values = placed(c.values.gpu),
                               .index = c.uploaded.index(),
                               .dx = out.dx,
                               .activation = activation,
                               .pre = activation != Activation::kNone ? pre.view() : ConstView{},
                               .dbias = out.dbias},
                              gpu);
  return out;
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
  const Stream cpu = make_cpu_stream();
  Tensor wanted = Tensor::empty(c.x.wide.shape(), DType::kFloat64, cpu);
  kernels::bsr_input_gradient(
      {.dy = c.dy.wide, .values = c.values.wide, .index = c.pattern.index(), .dx = wanted}, cpu);
  const double u = test::unit_roundoff(c.dtype);
  const double tolerance = c.tolerance(c.pattern.rows);
  HEW_CHECK_CLOSE(test::on_cpu(input_gradient(c, Activation::kNone, aligned).dx), wanted, u,
                  tolerance);
  if (activation == Activation::kNone)
    return;
  Tensor dbias = Tensor::empty({c.pattern.cols}, DType::kFloat64, cpu);
  kernels::activation_backward(
      {.activation = activation, .x = c.x.wide, .dy = wanted, .dx = wanted, .dbias = dbias}, cpu);
  const InputGradient out = input_gradient(c, activation, aligned);
  // act' is below 1.2; dy·W may be rounded before it is multiplied with that.
  HEW_CHECK_CLOSE(test::on_cpu(out.dx), wanted, 3 * u, 1.2 * tolerance);
  const auto tokens = static_cast<double>(c.x.wide.size(0));
  const double of_sums = tokens * test::unit_roundoff(accumulator_of(c.dtype));
  HEW_CHECK_CLOSE(test::on_cpu(out.dbias), dbias, 0,
                  1.2 * tokens * tolerance + (2 * u + of_sums) * largest_column(wanted));
}

Tensor weight_gradient(const Case& c, bool aligned) {
  const Stream& gpu = test::gpu_stream();
  Tensor dvalues = test::poisoned(c.values.gpu.shape(), accumulator_of(c.dtype), gpu);
  kernels::bsr_weight_gradient({.dy = aligned ? c.dy.gpu : test::misaligned(c.dy.gpu),
                                .x = aligned ? c.x.gpu : test::misaligned(c.x.gpu),
                                .index = c.uploaded.index(),
                                .dvalues = dvalues},
                               gpu);
  return dvalues;
}

void check_weight_gradient(const Case& c, bool aligned) {
  const Stream cpu = make_cpu_stream();
  const Stream& gpu = test::gpu_stream();
  const Shape& shape = c.values.wide.shape();
  Tensor wanted = Tensor::empty(shape, DType::kFloat64, cpu);
  kernels::bsr_weight_gradient(
      {.dy = c.dy.wide, .x = c.x.wide, .index = c.pattern.index(), .dvalues = wanted}, cpu);
  Tensor dvalues = weight_gradient(c, aligned);
  const double tolerance = c.tolerance(c.x.wide.size(0));
  HEW_CHECK_CLOSE(test::on_cpu(dvalues), wanted, 0, tolerance);
  CHECK(
      test::same_bytes(test::on_cpu(dvalues), with_zero_padding(test::on_cpu(dvalues), c.pattern)));
  kernels::bsr_weight_gradient({.dy = c.dy.gpu,
                                .x = c.x.gpu,
                                .index = c.uploaded.index(),
                                .dvalues = dvalues,
                                .accumulate = true},
                               gpu);
  kernels::bsr_weight_gradient({.dy = c.dy.wide,
                                .x = c.x.wide,
                                .index = c.pattern.index(),
                                .dvalues = wanted,
                                .accumulate = true},
                               cpu);
  HEW_CHECK_CLOSE(test::on_cpu(dvalues), wanted, 0, 4 * tolerance);
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
    if (density == 1 && test::small_sizes())
      continue;
    out.push_back(random_pattern(rows, cols, b, density, /*seed=*/7));
  }
  out.push_back(
      make_pattern(rows, cols, b, [](std::int64_t r, std::int64_t c) { return r == 2 && c == 3; }));
  return out;
}

// Patterns of several tiles and groups of rows, whose widths TMA can move.
std::vector<BlockPattern> large_patterns(std::int64_t b) {
  std::vector<BlockPattern> out;
  for (const double density : {0.05, 0.3, 1.0}) {
    if (density == 1 && test::small_sizes())
      continue;
    out.push_back(random_pattern(1024, 1536, b, density, 9));
  }
  out.push_back(random_pattern(1024 - 24, 1536 - 8, b, 0.3, 10));  // ragged
  // One row and one column have eight times as many blocks as the others.
  out.push_back(make_pattern(1024, 2048, b, [](std::int64_t r, std::int64_t c) {
    return r == 3 || c == 5 || (r + c) % 8 == 0;
  }));
  out.push_back(
      make_pattern(1024, 1536, b, [](std::int64_t r, std::int64_t c) { return r == 4 && c == 7; }));
  return out;
}

}  // namespace

TEST_CASE("block-sparse products on a GPU agree with the CPU's for every block size") {
  // With small sizes one for every kernel, and both ends of those that take several.
  constexpr std::array<std::int64_t, 9> kSmall{8, 16, 24, 32, 40, 64, 96, 112, 128};
  for (const Type& type : kTypes) {
    CAPTURE(type.name());
    for (std::int64_t b = 8; b <= 128; b += 8) {
      CAPTURE(b);
      if (test::small_sizes() && std::ranges::find(kSmall, b) == kSmall.end())
        continue;
      for (const Edge edge : {Edge::kWhole, Edge::kOdd, Edge::kMovable}) {
        CAPTURE(static_cast<int>(edge));
        for (const BlockPattern& pattern : patterns(b, edge)) {
          CAPTURE(pattern.nnzb());
          check_all(Case(pattern, 70, type));
        }
      }
    }
  }
}

TEST_CASE("block-sparse products on a GPU take any number of tokens") {
  for (const Type& type : kTypes) {
    CAPTURE(type.name());
    for (const std::int64_t tokens : {0, 1, 7, 128, 257, 521, 1031, 4099}) {
      CAPTURE(tokens);
      if (test::small_sizes() && tokens > 521)  // which are split already
        continue;
      check_all(Case(random_pattern(97, 131, 16, 0.5, 8), tokens, type));
      check_all(Case(random_pattern(64, 192, 32, 0.5, 8), tokens, type));
      check_all(Case(random_pattern(128, 256, 128, 0.5, 8), tokens, type));
    }
  }
}

TEST_CASE("block-sparse products on a Hopper agree with the CPU's over many tiles") {
  for (const Type& type : kHopperTypes) {
    CAPTURE(type.name());
    for (const std::int64_t b : {16, 32, 64, 128}) {
      CAPTURE(b);
      for (const BlockPattern& pattern : large_patterns(b)) {
        CAPTURE(pattern.nnzb());
        check_all(Case(pattern, test::cut(1000, 300), type));
      }
      // Rows that end inside a tile's first 32 or 64 tokens, inside its last, and one behind a
      // tile.
      for (const std::int64_t tokens : {1, 40, 200, 513}) {
        CAPTURE(tokens);
        check_all(Case(large_patterns(b)[1], tokens, type));
      }
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
        check_all(
            Case(random_pattern(10 * 128, 6 * 128, b, density, 12), test::cut(9000, 600), type));
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
  for (const std::int64_t b : {16, 32, 64, 128}) {
    for (const std::int64_t tokens : {1, 63, 64, 65, 500, 3000}) {
      for (const double density : {0.1, 0.5, 1.0}) {
        check(random_pattern(2 * b + 8, 3 * b + b / 2 + 8, b, density, 11), tokens);
        check(random_pattern(6 * b, 5 * b + 24, b, density, 12), tokens);
      }
    }
    for (const double density : {0.05, 0.2, 0.5}) {
      check(random_pattern(1024, 1536, b, density, 13), 3000);
      check(random_pattern(1536, 1024, b, density, 13), 520);
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
      check_all(Case(random_pattern(2 * b, 3 * b, b, 1, 8), test::cut(200, 70), type),
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
  const Stream& gpu = test::gpu_stream();
  for (const Type& type : kHopperTypes) {
    CAPTURE(type.name());
    for (const std::int64_t b : {16, 32, 64, 128}) {
      CAPTURE(b);
      const Case c(random_pattern(6 * b, 5 * b, b, 0.5, 8), 300, type);
      Tensor wanted = Tensor::empty(c.dy.wide.shape(), DType::kFloat64, cpu);
      kernels::bsr_forward(
          {.x = c.x.wide, .values = c.values.wide, .index = c.pattern.index(), .y = wanted}, cpu);
      Tensor y = test::poisoned(c.dy.gpu.shape(), c.dtype, gpu);
      kernels::bsr_forward(
          {.x = c.x.gpu, .values = c.values.gpu, .index = c.uploaded.index(), .y = y}, gpu);
      HEW_CHECK_CLOSE(test::on_cpu(y), wanted, test::unit_roundoff(c.dtype),
                      c.tolerance(c.pattern.cols));
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

TEST_CASE("block-sparse products on a GPU go through dense ones where those are cheaper") {
  for (const Type& type : {kFloat32, kTf32, kBFloat16}) {
    CAPTURE(type.name());
    const Case c(random_pattern(1000, 1528, 16, 1, 8), 1001, type);
    let_fold(true);
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
    const Case c(random_pattern(256, 384, 64, 0.5, 8), test::cut(3000, 521), type);
    CHECK(test::same_bytes(test::on_cpu(forward(c, Activation::kGelu, true).y),
                           test::on_cpu(forward(c, Activation::kGelu, true).y)));
    CHECK(test::same_bytes(test::on_cpu(weight_gradient(c, true)),
                           test::on_cpu(weight_gradient(c, true))));
    const InputGradient once = input_gradient(c, Activation::kSilu, true);
    const InputGradient again = input_gradient(c, Activation::kSilu, true);
    CHECK(test::same_bytes(test::on_cpu(once.dx), test::on_cpu(again.dx)));
    CHECK(test::same_bytes(test::on_cpu(once.dbias), test::on_cpu(again.dbias)));
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
      c.x = test::gpu_input(c.x.wide, type.dtype);
      c.dy = test::gpu_input(c.dy.wide, type.dtype);
      const Tensor dvalues = test::on_cpu(weight_gradient(c, true));
      CHECK(test::same_bytes(dvalues, with_zero_padding(dvalues, c.pattern)));
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
        c.x = test::gpu_input(c.x.wide, type.dtype);
        c.dy = test::gpu_input(c.dy.wide, type.dtype);
        Tensor dvalues = weight_gradient(c, true);
        const Tensor once = test::on_cpu(dvalues);
        CHECK(test::same_bytes(once, with_zero_padding(once, c.pattern)));
        kernels::bsr_weight_gradient({.dy = c.dy.gpu,
                                      .x = c.x.gpu,
                                      .index = c.uploaded.index(),
                                      .dvalues = dvalues,
                                      .accumulate = true},
                                     test::gpu_stream());
        const Tensor twice = test::on_cpu(dvalues);
        CHECK(test::same_bytes(twice, with_zero_padding(twice, c.pattern)));
      }
    }
  }
}

TEST_CASE("the comparison on a GPU finds one wrong block") {
  Case c(random_pattern(96, 128, 16, 0.5, 8), 33, kFloat32);
  const Outputs good = forward(c, Activation::kNone, true);
  Tensor bad = c.values.wide.clone();
  for (std::int64_t i = 5 * 256; i < 6 * 256; ++i) bad.data<double>()[i] *= 1.001;
  c.values = test::gpu_input(bad, DType::kFloat32);
  const Outputs wrong = forward(c, Activation::kNone, true);
  CHECK_FALSE(test::compare(test::on_cpu(wrong.y), test::on_cpu(good.y),
                            test::epsilon(DType::kFloat32), c.tolerance(c.pattern.cols))
                  .ok);
}

}  // namespace hew
