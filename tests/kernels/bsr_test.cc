#include "kernels/bsr.h"

#include <doctest/doctest.h>
#include <omp.h>

#include <cmath>

#include "kernels/elementwise.h"
#include "kernels/swiglu.h"
#include "tests/support/block_pattern.h"
#include "tests/support/compare.h"
#include "tests/support/device.h"
#include "tests/support/product.h"
#include "tests/support/random.h"

namespace hew {
namespace {

using kernels::Activation;
using test::BlockPattern;
using test::random_pattern;
using test::random_tensor;
using test::reference_product;
using test::Transpose;

constexpr std::array<std::int64_t, 7> kBlocks{8, 16, 24, 32, 64, 120, 128};

// A grid of 3 × 4 blocks, ragged (the last row one wide, the last column of an odd width) or whole.
std::vector<BlockPattern> patterns(std::int64_t b, bool ragged) {
  const std::int64_t rows = ragged ? 2 * b + 1 : 3 * b;
  const std::int64_t cols = ragged ? 3 * b + b / 2 + 1 : 4 * b;
  std::vector<BlockPattern> out;
  for (const double density : {0.0, 0.1, 0.5, 1.0}) {
    out.push_back(random_pattern(rows, cols, b, density, /*seed=*/7));
  }
  out.push_back(test::one_block(rows, cols, b, 2, 3));
  return out;
}

struct Case {
  BlockPattern pattern;
  test::UploadedPattern uploaded;
  Tensor x, dy, values;

  kernels::BsrIndex index() const { return uploaded.index(); }
};

Case make_case(const BlockPattern& pattern, std::int64_t tokens, DType dtype,
               const Stream& stream) {
  return {pattern, test::UploadedPattern(pattern, stream),
          random_tensor({tokens, pattern.cols}, dtype, stream, 1),
          random_tensor({tokens, pattern.rows}, dtype, stream, 2),
          with_zero_padding(random_tensor(pattern.values_shape(), dtype, stream, 3), pattern)};
}

Tensor forward(const Case& c) {
  Tensor y = Tensor::empty(c.dy.shape(), c.x.dtype(), c.x.stream());
  kernels::bsr_forward({.x = c.x, .values = c.values, .index = c.index(), .y = y}, c.x.stream());
  return y;
}

Tensor input_gradient(const Case& c) {
  Tensor dx = Tensor::empty(c.x.shape(), c.x.dtype(), c.x.stream());
  kernels::bsr_input_gradient({.dy = c.dy, .values = c.values, .index = c.index(), .dx = dx},
                              c.x.stream());
  return dx;
}

Tensor weight_gradient(const Case& c) {
  Tensor dvalues = Tensor::empty(c.values.shape(), c.x.dtype(), c.x.stream());
  kernels::bsr_weight_gradient({.dy = c.dy, .x = c.x, .index = c.index(), .dvalues = dvalues},
                               c.x.stream());
  return dvalues;
}

// dW at the live blocks, padding zero: what dvalues must be.
Tensor live_part(const Tensor& dense, const BlockPattern& pattern) {
  const std::int64_t b = pattern.block;
  const std::vector<double> from = dense.to_vector<double>();
  std::vector<double> values(static_cast<std::size_t>(pattern.values_shape().numel()));
  for (std::size_t r = 0; r + 1 < pattern.crow.size(); ++r) {
    for (auto p = pattern.crow[r]; p < pattern.crow[r + 1]; ++p) {
      for (std::int64_t i = 0; i < b * b; ++i) {
        const std::int64_t n = static_cast<std::int64_t>(r) * b + i / b;
        const std::int64_t k = pattern.col[static_cast<std::size_t>(p)] * b + i % b;
        if (n >= pattern.rows || k >= pattern.cols)
          continue;
        values[static_cast<std::size_t>(p * b * b + i)] =
            from[static_cast<std::size_t>(n * pattern.cols + k)];
      }
    }
  }
  return Tensor::from(values, pattern.values_shape(), dense.stream());
}

void check_products(const Case& c) {
  const DType dtype = c.x.dtype();
  const Tensor w = test::fold(c.values, c.pattern);
  const auto y = reference_product(c.x, Transpose::kNo, w, Transpose::kYes);
  HEW_CHECK_CLOSE(test::widen(forward(c)), y.value, 0, y.tolerance(dtype));
  const auto dx = reference_product(c.dy, Transpose::kNo, w, Transpose::kNo);
  HEW_CHECK_CLOSE(test::widen(input_gradient(c)), dx.value, 0, dx.tolerance(dtype));
  const auto dw = reference_product(c.dy, Transpose::kYes, c.x, Transpose::kNo);
  const Tensor dvalues = weight_gradient(c);
  HEW_CHECK_CLOSE(test::widen(dvalues), live_part(dw.value, c.pattern), 0, dw.tolerance(dtype));
  CHECK(test::same_bytes(dvalues, with_zero_padding(dvalues, c.pattern)));
}

// Runs `body` with that many threads, then puts the number back.
template <class Body>
auto with_threads(int threads, const Body& body) {
  const int before = omp_get_max_threads();
  omp_set_num_threads(threads);
  auto result = body();
  omp_set_num_threads(before);
  return result;
}

}  // namespace

TEST_CASE_TEMPLATE("block-sparse products match the triple loop over the folded matrix", T, float,
                   double) {
  const Stream& stream = test::test_stream();
  for (const std::int64_t b : kBlocks) {
    CAPTURE(b);
    for (const bool ragged : {false, true}) {
      CAPTURE(ragged);
      for (const BlockPattern& pattern : patterns(b, ragged)) {
        CAPTURE(pattern.nnzb());
        check_products(make_case(pattern, 33, kDTypeOf<T>, stream));
      }
    }
  }
}

TEST_CASE_TEMPLATE("block-sparse products take any number of tokens and any grid", T, float,
                   double) {
  const Stream& stream = test::test_stream();
  for (const std::int64_t tokens : {0, 1, 7, 257, 1031}) {
    CAPTURE(tokens);
    check_products(make_case(random_pattern(97, 131, 16, 0.5, 8), tokens, kDTypeOf<T>, stream));
  }
  // Wider than the span of the epilogue; a tile of many output blocks; narrower than a block.
  check_products(make_case(random_pattern(1100, 40, 8, 0.3, 9), 50, kDTypeOf<T>, stream));
  check_products(make_case(random_pattern(24, 1500, 32, 0.3, 9), 50, kDTypeOf<T>, stream));
  check_products(make_case(random_pattern(3, 5, 64, 1, 9), 50, kDTypeOf<T>, stream));
}

TEST_CASE("the comparison finds one wrong block") {
  const Stream& stream = test::test_stream();
  const Case good = make_case(random_pattern(96, 128, 16, 0.5, 8), 33, DType::kFloat32, stream);
  Case bad = good;
  bad.values = good.values.clone();
  kernels::scale(1.001, bad.values.rows(5, 1), stream);
  const Tensor w = test::fold(good.values, good.pattern);
  const auto y = reference_product(good.x, Transpose::kNo, w, Transpose::kYes);
  const double tolerance = y.tolerance(DType::kFloat32);
  CHECK(test::compare(test::widen(forward(good)), y.value, 0, tolerance).ok);
  CHECK_FALSE(test::compare(test::widen(forward(bad)), y.value, 0, tolerance).ok);
  const auto dx = reference_product(good.dy, Transpose::kNo, w, Transpose::kNo);
  CHECK_FALSE(
      test::compare(test::widen(input_gradient(bad)), dx.value, 0, dx.tolerance(DType::kFloat32))
          .ok);
}

TEST_CASE("bsr_weight_gradient accumulates") {
  const Stream& stream = test::test_stream();
  const Case c = make_case(random_pattern(97, 131, 32, 0.5, 8), 300, DType::kFloat64, stream);
  const Tensor once = weight_gradient(c);
  Tensor twice = once.clone();
  kernels::bsr_weight_gradient(
      {.dy = c.dy, .x = c.x, .index = c.index(), .dvalues = twice, .accumulate = true}, stream);
  Tensor doubled = once.clone();
  kernels::scale(2, doubled, stream);
  // |Σ of 300 products| stays below 150; the order of summation differs.
  HEW_CHECK_CLOSE(twice, doubled, 0, 300 * 150 * 0x1p-53);
  CHECK(test::same_bytes(twice, with_zero_padding(twice, c.pattern)));
}

TEST_CASE_TEMPLATE("bsr_forward ends with a gate or a residual", T, float, double) {
  const Stream& stream = test::test_stream();
  const Case c = make_case(random_pattern(97, 131, 16, 0.5, 8), 33, kDTypeOf<T>, stream);
  const Tensor beside = random_tensor(c.dy.shape(), kDTypeOf<T>, stream, 4);
  const Tensor bias = random_tensor({97}, kDTypeOf<T>, stream, 5);
  const kernels::BsrForwardArgs plain{
      .x = c.x, .values = c.values, .index = c.index(), .bias = bias, .y = {}};
  auto product = [&](auto... ending) {
    Tensor y = test::poisoned(c.dy.shape(), kDTypeOf<T>, stream);
    kernels::BsrForwardArgs args = plain;
    (ending(args), ...);
    args.y = y;
    kernels::bsr_forward(args, stream);
    return y;
  };
  const Tensor y = product();
  Tensor gated = Tensor::empty(y.shape(), y.dtype(), stream);
  kernels::swiglu_forward(beside, y, gated, stream);
  auto with_gate = [&](kernels::BsrForwardArgs& args) { args.gate = beside; };
  Tensor pre = test::poisoned(y.shape(), y.dtype(), stream);
  CHECK(test::same_bytes(product(with_gate), gated));
  CHECK(test::same_bytes(product(with_gate, [&](kernels::BsrForwardArgs& args) { args.pre = pre; }),
                         gated));
  CHECK(test::same_bytes(pre, y));
  auto with_residual = [&](kernels::BsrForwardArgs& args) { args.residual = beside; };
  Tensor sum = Tensor::empty(y.shape(), y.dtype(), stream);
  kernels::add(y, beside, sum, stream);
  CHECK(test::same_bytes(product(with_residual), sum));
  CHECK_THROWS_AS(product(with_gate, with_residual), Error);
  CHECK_THROWS_AS(product([&](kernels::BsrForwardArgs& args) { args.gate = c.x; }), ShapeError);
}

TEST_CASE_TEMPLATE("bsr_input_gradient goes back through a gate", T, float, double) {
  const Stream& stream = test::test_stream();
  const Case c = make_case(random_pattern(97, 131, 16, 0.5, 8), 33, kDTypeOf<T>, stream);
  const Tensor gate = random_tensor(c.x.shape(), kDTypeOf<T>, stream, 4);
  const Tensor d = input_gradient(c);
  Tensor dgate = Tensor::empty(d.shape(), d.dtype(), stream);
  Tensor dup = Tensor::empty(d.shape(), d.dtype(), stream);
  kernels::swiglu_backward({.gate = gate, .up = c.x, .dy = d, .dgate = dgate, .dup = dup}, stream);
  Tensor got_gate = test::poisoned(d.shape(), d.dtype(), stream);
  Tensor got_up = test::poisoned(d.shape(), d.dtype(), stream);
  kernels::BsrInputGradientArgs args{.dy = c.dy,
                                     .values = c.values,
                                     .index = c.index(),
                                     .dx = got_up,
                                     .gate = gate,
                                     .up = c.x,
                                     .dgate = got_gate};
  kernels::bsr_input_gradient(args, stream);
  CHECK(test::same_bytes(got_gate, dgate));
  CHECK(test::same_bytes(got_up, dup));
  args.up = c.dy;
  CHECK_THROWS_AS(kernels::bsr_input_gradient(args, stream), ShapeError);
  args.up = c.x;
  args.activation = Activation::kSilu;
  args.pre = c.x;
  CHECK_THROWS_AS(kernels::bsr_input_gradient(args, stream), Error);
}

TEST_CASE("an infinity beside the edge stays out of the padding") {
  const Stream& stream = test::test_stream();
  Case c = make_case(random_pattern(17, 19, 8, 1, 8), 9, DType::kFloat32, stream);
  c.x = test::with_element(c.x, 18, INFINITY);
  c.dy = test::with_element(c.dy, 16, INFINITY);
  const Tensor dvalues = weight_gradient(c);
  CHECK(test::same_bytes(dvalues, with_zero_padding(dvalues, c.pattern)));
}

TEST_CASE_TEMPLATE("block-sparse products do not depend on the number of threads", T, float,
                   double) {
  const Stream& stream = test::test_stream();
  for (const std::int64_t tokens : {5, 700}) {
    const Case c = make_case(random_pattern(200, 300, 24, 0.4, 8), tokens, kDTypeOf<T>, stream);
    auto run = [&] { return std::array{forward(c), input_gradient(c), weight_gradient(c)}; };
    const auto one = with_threads(1, run);
    for (const int threads : {2, 3}) {
      const auto many = with_threads(threads, run);
      for (std::size_t i = 0; i < one.size(); ++i) CHECK(test::same_bytes(one[i], many[i]));
    }
  }
}

TEST_CASE("bsr_forward adds the bias, keeps the pre-activation, then applies the activation") {
  const Stream& stream = test::test_stream();
  const Case c = make_case(random_pattern(601, 70, 16, 0.5, 8), 77, DType::kFloat64, stream);
  const Tensor bias = random_tensor({601}, DType::kFloat64, stream, 4);
  Tensor expected_pre = forward(c);
  kernels::add_broadcast(expected_pre, bias, expected_pre, stream);
  for (const Activation kind : {Activation::kNone, Activation::kGelu, Activation::kSilu}) {
    CAPTURE(kernels::name_of(kind));
    Tensor expected = Tensor::empty(expected_pre.shape(), DType::kFloat64, stream);
    kernels::activation_forward(kind, expected_pre, expected, stream);
    Tensor y = Tensor::empty(expected.shape(), DType::kFloat64, stream);
    Tensor pre = Tensor::empty(expected.shape(), DType::kFloat64, stream);
    kernels::bsr_forward({.x = c.x,
                          .values = c.values,
                          .index = c.index(),
                          .bias = bias,
                          .activation = kind,
                          .y = y,
                          .pre = pre},
                         stream);
    HEW_CHECK_CLOSE(y, expected, 0, 1e-13);
    if (kind != Activation::kNone)
      HEW_CHECK_CLOSE(pre, expected_pre, 0, 1e-13);
    Tensor without_pre = Tensor::empty(expected.shape(), DType::kFloat64, stream);
    kernels::bsr_forward({.x = c.x,
                          .values = c.values,
                          .index = c.index(),
                          .bias = bias,
                          .activation = kind,
                          .y = without_pre},
                         stream);
    CHECK(test::same_bytes(without_pre, y));
  }
}

TEST_CASE("bsr_input_gradient goes on through an activation and sums over the tokens") {
  const Stream& stream = test::test_stream();
  for (const std::int64_t tokens : {0, 1, 77}) {
    const Case c = make_case(random_pattern(601, 70, 16, 0.1, 8), tokens, DType::kFloat64, stream);
    for (const Activation kind : {Activation::kRelu, Activation::kGeluTanh, Activation::kSilu}) {
      CAPTURE(kernels::name_of(kind));
      Tensor expected = input_gradient(c);
      Tensor expected_sums = Tensor::empty({70}, DType::kFloat64, stream);
      kernels::activation_backward(
          {.activation = kind, .x = c.x, .dy = expected, .dx = expected, .dbias = expected_sums},
          stream);
      Tensor dx = Tensor::empty(c.x.shape(), DType::kFloat64, stream);
      Tensor dbias = Tensor::empty({70}, DType::kFloat64, stream);
      kernels::bsr_input_gradient({.dy = c.dy,
                                   .values = c.values,
                                   .index = c.index(),
                                   .dx = dx,
                                   .activation = kind,
                                   .pre = c.x,
                                   .dbias = dbias},
                                  stream);
      HEW_CHECK_CLOSE(dx, expected, 1e-13, 1e-13);
      HEW_CHECK_CLOSE(dbias, expected_sums, 1e-12, 1e-12);
    }
  }
}

TEST_CASE("block-sparse products refuse what does not fit") {
  const Stream& stream = test::test_stream();
  const Case c = make_case(random_pattern(32, 48, 16, 1, 8), 4, DType::kFloat32, stream);
  const kernels::BsrIndex index = c.index();
  Tensor y = Tensor::zeros({4, 32}, DType::kFloat32, stream);
  Tensor wide = Tensor::zeros({4, 32}, DType::kFloat64, stream);
  kernels::BsrIndex odd = index;
  odd.block = 12;
  CHECK_THROWS_AS(
      kernels::bsr_forward({.x = c.x, .values = c.values, .index = odd, .y = y}, stream),
      ShapeError);
  CHECK_THROWS_AS(
      kernels::bsr_forward({.x = c.dy, .values = c.values, .index = index, .y = y}, stream),
      ShapeError);
  CHECK_THROWS_AS(kernels::bsr_forward({.x = c.x, .values = c.x, .index = index, .y = y}, stream),
                  ShapeError);
  CHECK_THROWS_AS(
      kernels::bsr_forward({.x = c.x, .values = c.values, .index = index, .y = wide}, stream),
      DtypeError);
  CHECK_THROWS_AS(kernels::bsr_forward(
                      {.x = c.x, .values = c.values, .index = index, .bias = c.x, .y = y}, stream),
                  ShapeError);
  CHECK_THROWS_AS(kernels::bsr_input_gradient(
                      {.dy = c.dy, .values = c.values, .index = index, .dx = y}, stream),
                  ShapeError);
  Tensor dx = Tensor::zeros({4, 48}, DType::kFloat32, stream);
  CHECK_THROWS_AS(kernels::bsr_input_gradient({.dy = c.dy,
                                               .values = c.values,
                                               .index = index,
                                               .dx = dx,
                                               .activation = Activation::kGelu,
                                               .pre = c.dy},
                                              stream),
                  ShapeError);
  Tensor dbias = Tensor::zeros({48}, DType::kFloat32, stream);
  CHECK_THROWS_AS(
      kernels::bsr_input_gradient(
          {.dy = c.dy, .values = c.values, .index = index, .dx = dx, .dbias = dbias}, stream),
      Error);
  CHECK_THROWS_AS(
      kernels::bsr_weight_gradient({.dy = c.dy, .x = c.x, .index = index, .dvalues = y}, stream),
      ShapeError);
}

}  // namespace hew
