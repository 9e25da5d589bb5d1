#include "kernels/attention.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "kernels/attention_cudnn.h"
#include "kernels/attention_settings.h"
#include "tests/support/compare.h"
#include "tests/support/gpu_input.h"
#include "tests/support/sizes.h"

namespace hew {
namespace {

using kernels::AttentionBackward;
using kernels::AttentionForward;
using kernels::AttentionOptions;

struct Case {
  std::int64_t batch = 1;
  std::int64_t queries = 1;
  std::int64_t keys = 1;
  std::int64_t heads = 1;
  std::int64_t key_heads = 1;
  std::int64_t width = 1;
  bool causal = true;
  double scale = 0;

  Shape q_shape() const { return {batch, queries, heads, width}; }
  Shape k_shape() const { return {batch, keys, key_heads, width}; }
  Shape lse_shape() const { return {batch, heads, queries}; }
  AttentionOptions options() const { return {.causal = causal, .scale = scale}; }
  std::string text() const {
    return fmt::format("B {}, Tq {}, Tk {}, H {}, Hkv {}, D {}, {}", batch, queries, keys, heads,
                       key_heads, width, causal ? "causal" : "full");
  }
};

// Of the rows of `width` values of a float64 tensor.
double largest_norm(const Tensor& x, std::int64_t width) {
  double largest = 0;
  for (std::int64_t row = 0; row < x.numel() / width; ++row) {
    double squares = 0;
    for (std::int64_t d = 0; d < width; ++d) {
      const double value = x.data<double>()[row * width + d];
      squares += value * value;
    }
    largest = std::max(largest, std::sqrt(squares));
  }
  return largest;
}

double largest(const Tensor& x) {
  return largest_norm(x, 1);
}

struct Gradients {
  Gradients(const Case& c, DType dtype, const Stream& stream)
      : dq(test::poisoned(c.q_shape(), dtype, stream)),
        dk(test::poisoned(c.k_shape(), dtype, stream)),
        dv(test::poisoned(c.k_shape(), dtype, stream)) {}
  Tensor dq;
  Tensor dk;
  Tensor dv;
};

// Inputs of one case, and what the CPU makes of them in float64. The backward pass starts on both
// sides from the same rounded y and lse.
struct Problem {
  Problem(const Case& sizes, DType type)
      : c(sizes),
        dtype(type),
        q(test::gpu_input(c.q_shape(), dtype, 1)),
        k(test::gpu_input(c.k_shape(), dtype, 2)),
        v(test::gpu_input(c.k_shape(), dtype, 3)),
        dy(test::gpu_input(c.q_shape(), dtype, 4)),
        y_wanted(test::poisoned(c.q_shape(), DType::kFloat64, cpu)),
        lse_wanted(test::poisoned(c.lse_shape(), DType::kFloat64, cpu)),
        wanted(c, DType::kFloat64, cpu) {
    kernels::attention_forward({.q = q.wide,
                                .k = k.wide,
                                .v = v.wide,
                                .options = c.options(),
                                .y = y_wanted,
                                .lse = lse_wanted},
                               cpu);
    const test::GpuInput y = test::gpu_input(y_wanted, dtype);
    const test::GpuInput lse = test::gpu_input(lse_wanted, accumulator_of(dtype));
    y_given = y.gpu;
    lse_given = lse.gpu;
    reference_backward(y.wide, lse.wide, dy.wide, wanted);
    // With dy = 1 the gradient of v is what each key is given of all queries' attention.
    Tensor ones = Tensor::from(std::vector<double>(static_cast<std::size_t>(dy.wide.numel()), 1.0),
                               c.q_shape(), cpu);
    Gradients attention(c, DType::kFloat64, cpu);
    reference_backward(y.wide, lse.wide, ones, attention);
    key_mass = largest(attention.dv);
  }

  void reference_backward(const Tensor& y, const Tensor& lse, const Tensor& gradient,
                          Gradients& out) const {
    kernels::attention_backward({.q = q.wide,
                                 .k = k.wide,
                                 .v = v.wide,
                                 .y = y,
                                 .lse = lse,
                                 .dy = gradient,
                                 .options = c.options(),
                                 .dq = out.dq,
                                 .dk = out.dk,
                                 .dv = out.dv},
                                cpu);
  }

  void forward(Tensor& y, Tensor& lse) const {
    const Stream& gpu = test::gpu_stream();
    kernels::attention_forward(
        {.q = q.gpu, .k = k.gpu, .v = v.gpu, .options = c.options(), .y = y, .lse = lse}, gpu);
  }

  Gradients backward() const {
    const Stream& gpu = test::gpu_stream();
    Gradients out(c, dtype, gpu);
    kernels::attention_backward({.q = q.gpu,
                                 .k = k.gpu,
                                 .v = v.gpu,
                                 .y = y_given,
                                 .lse = lse_given,
                                 .dy = dy.gpu,
                                 .options = c.options(),
                                 .dq = out.dq,
                                 .dk = out.dk,
                                 .dv = out.dv},
                                gpu);
    return out;
  }

  Stream cpu = make_cpu_stream();
  Case c;
  DType dtype;
  test::GpuInput q;
  test::GpuInput k;
  test::GpuInput v;
  test::GpuInput dy;
  Tensor y_wanted;
  Tensor lse_wanted;
  Gradients wanted;
  Tensor y_given;
  Tensor lse_given;
  double key_mass = 0;  // largest Σ_i p[i, j]
};

// Bounds on errors where only results are rounded to the dtype and all else to its accumulator. A
// sum of n terms is off by 4·√n roundings of the sum of their magnitudes.
struct Bounds {
  explicit Bounds(const Problem& p) {
    const auto sum = [u = test::unit_roundoff(accumulator_of(p.dtype))](std::int64_t terms) {
      return 4 * u * std::sqrt(static_cast<double>(terms));
    };
    const Case& c = p.c;
    const double unit = test::unit_roundoff(accumulator_of(p.dtype));
    const double scale = c.scale == 0 ? 1 / std::sqrt(static_cast<double>(c.width)) : c.scale;
    // |scale·q·k|, and |dy·v|, which bounds |dy·y| too.
    const double score = scale * largest_norm(p.q.wide, c.width) * largest_norm(p.k.wide, c.width);
    const double product = largest_norm(p.dy.wide, c.width) * largest_norm(p.v.wide, c.width);
    const std::int64_t readers = c.queries * c.heads / c.key_heads;
    // Of a weight e^(score − lse), relative: its exponent's error, and a few roundings a tile.
    const double weight = 2 * score * (sum(c.width) + 4 * unit) + 2 * sum(c.keys) + 32 * unit;
    // Of ds / (scale·p).
    const double slope = 2 * product * (weight + sum(c.width));

    y = 2 * weight * largest(p.v.wide);
    lse = 2 * weight + 2 * unit * largest(p.lse_wanted);
    dq = largest(p.k.wide) * scale * (slope + 2 * product * sum(c.keys));
    dk = p.key_mass * largest(p.q.wide) * scale * (slope + 2 * product * sum(readers));
    dv = p.key_mass * largest(p.dy.wide) * (weight + sum(readers));
  }
  double y;
  double lse;
  double dq;
  double dk;
  double dv;
};

// Compares rows of `width` values by the norm of their difference. cuDNN rounds weights (in the
// backward pass ds too) to bfloat16 before the product that sums them, and then the result: two
// independent roundings, each within 2⁻⁸ of its value; four are allowed. Where terms cancel their
// roundings stay: a tenth of a typical row's norm is added to a row's own.
std::string rows_that_differ(const Tensor& got, const Tensor& wanted, std::int64_t width) {
  const Tensor wide = test::rounded(test::on_cpu(got), DType::kFloat64);
  const std::int64_t rows = wanted.numel() / width;
  double squares = 0;
  for (const double value : wanted.to_vector<double>()) squares += value * value;
  const double typical = std::sqrt(squares / static_cast<double>(rows));
  for (std::int64_t row = 0; row < rows; ++row) {
    double error = 0;
    double norm = 0;
    for (std::int64_t i = row * width; i < (row + 1) * width; ++i) {
      const double difference = wide.data<double>()[i] - wanted.data<double>()[i];
      error += difference * difference;
      norm += wanted.data<double>()[i] * wanted.data<double>()[i];
    }
    error = std::sqrt(error);
    norm = std::sqrt(norm);
    if (!(error <= 4 * test::unit_roundoff(DType::kBFloat16) * (norm + typical / 10)))
      return fmt::format("row {} of {} is off by {:.3g}, norm {:.3g}", row, rows, error, norm);
  }
  return {};
}

// Settings of the GPU's stream, put back at the end of a test.
class Settings {
 public:
  Settings(bool own_kernel, bool deterministic) : before_(current()) {
    current().own_kernel = own_kernel;
    current().deterministic = deterministic;
  }
  Settings(const Settings&) = delete;
  Settings& operator=(const Settings&) = delete;
  ~Settings() { current() = before_; }

  static kernels::AttentionSettings& current() {
    const Stream& gpu = test::gpu_stream();
    return gpu.state->get<kernels::AttentionSettings>(gpu);
  }

 private:
  kernels::AttentionSettings before_;
};

bool same_on_gpu(const Tensor& a, const Tensor& b) {
  return test::same_bytes(test::on_cpu(a), test::on_cpu(b));
}

// More rows than a tile has, and than a block owns.
Case cut(Case c) {
  c.queries = test::cut(c.queries, 45);
  c.keys = test::cut(c.keys, 45);
  return c;
}

void check_own_kernel(const Case& whole, DType dtype) {
  const Case c = cut(whole);
  CAPTURE(c.text());
  CAPTURE(name_of(dtype));
  const Problem p(c, dtype);
  const Bounds bounds(p);
  const Stream& gpu = test::gpu_stream();
  Tensor y = test::poisoned(c.q_shape(), dtype, gpu);
  Tensor lse = test::poisoned(c.lse_shape(), accumulator_of(dtype), gpu);
  p.forward(y, lse);
  const double rounding = test::unit_roundoff(dtype);
  HEW_CHECK_CLOSE(y, p.y_wanted, rounding, bounds.y);
  HEW_CHECK_CLOSE(lse, p.lse_wanted, 0, bounds.lse);
  const Gradients got = p.backward();
  HEW_CHECK_CLOSE(got.dq, p.wanted.dq, rounding, bounds.dq);
  HEW_CHECK_CLOSE(got.dk, p.wanted.dk, rounding, bounds.dk);
  HEW_CHECK_CLOSE(got.dv, p.wanted.dv, rounding, bounds.dv);
}

void check_cudnn(const Case& whole) {
  const Case c = cut(whole);
  CAPTURE(c.text());
  const Problem p(c, DType::kBFloat16);
  const Stream& gpu = test::gpu_stream();
  Tensor y = test::poisoned(c.q_shape(), DType::kBFloat16, gpu);
  Tensor lse = test::poisoned(c.lse_shape(), DType::kFloat32, gpu);
  p.forward(y, lse);
  CHECK(Settings::current().refusal == "");
  CHECK(rows_that_differ(y, p.y_wanted, c.width) == "");
  HEW_CHECK_CLOSE(lse, p.lse_wanted, 0, Bounds(p).lse);
  const Gradients got = p.backward();
  CHECK(Settings::current().refusal == "");
  CHECK(rows_that_differ(got.dq, p.wanted.dq, c.width) == "");
  CHECK(rows_that_differ(got.dk, p.wanted.dk, c.width) == "");
  CHECK(rows_that_differ(got.dv, p.wanted.dv, c.width) == "");
}

}  // namespace

TEST_CASE("own attention on a GPU agrees with the CPU's in float64") {
  const Settings settings(/*own_kernel=*/true, /*deterministic=*/false);
  for (const DType dtype : {DType::kFloat64, DType::kFloat32, DType::kBFloat16}) {
    for (const bool causal : {true, false}) {
      for (const Case& c :
           {Case{1, 1, 1, 1, 1, 1, causal}, Case{2, 7, 7, 3, 3, 5, causal},
            Case{1, 1, 67, 4, 2, 64, causal}, Case{2, 5, 131, 2, 1, 33, causal},
            Case{3, 31, 33, 6, 2, 16, causal}, Case{1, 64, 64, 4, 4, 64, causal},
            Case{2, 97, 97, 6, 3, 40, causal}, Case{1, 33, 65, 5, 1, 80, causal},
            Case{1, 129, 129, 2, 2, 128, causal}, Case{1, 40, 70, 2, 1, 256, causal},
            Case{1, 513, 513, 2, 1, 32, causal}}) {
        check_own_kernel(c, dtype);
      }
    }
    check_own_kernel({1, 50, 50, 2, 2, 24, true, 0.3}, dtype);
    check_own_kernel({2, 37, 19, 2, 1, 24, false}, dtype);  // fewer keys than queries
  }
}

TEST_CASE("own attention on a GPU takes empty batches and no heads wider than 256") {
  const Settings settings(/*own_kernel=*/true, /*deterministic=*/false);
  const Problem empty({0, 4, 4, 2, 2, 8}, DType::kFloat32);
  const Stream& gpu = test::gpu_stream();
  Tensor y = Tensor::empty(empty.c.q_shape(), DType::kFloat32, gpu);
  Tensor lse = Tensor::empty(empty.c.lse_shape(), DType::kFloat32, gpu);
  empty.forward(y, lse);
  empty.backward();
  synchronize(gpu);
  const Problem wide({1, 3, 3, 1, 1, 257}, DType::kFloat32);
  Tensor wide_y = Tensor::empty(wide.c.q_shape(), DType::kFloat32, gpu);
  Tensor wide_lse = Tensor::empty(wide.c.lse_shape(), DType::kFloat32, gpu);
  CHECK_THROWS_AS(wide.forward(wide_y, wide_lse), ShapeError);
  CHECK_THROWS_AS(wide.backward(), ShapeError);
}

TEST_CASE("cuDNN's attention agrees with the CPU's in float64") {
  if (!kernels::has_cudnn_attention()) {
    MESSAGE("this build has no cuDNN attention");
    return;
  }
  for (const bool deterministic : {false, true}) {
    CAPTURE(deterministic);
    const Settings settings(/*own_kernel=*/false, deterministic);
    for (const std::int64_t width : {64, 128}) {
      for (const bool causal : {true, false}) {
        check_cudnn({2, 1024, 1024, 2, 2, width, causal});
        check_cudnn({1, 1024, 1024, 4, 2, width, causal});
        check_cudnn({2, 251, 251, 4, 1, width, causal});
        check_cudnn({1, 128, 384, 2, 1, width, causal});
        check_cudnn({1, 67, 197, 2, 2, width, causal});
      }
    }
    check_cudnn({1, 256, 256, 2, 2, 64, true, 0.05});
  }
}

TEST_CASE("what cuDNN does not take goes to the own kernel") {
  const Settings settings(/*own_kernel=*/false, /*deterministic=*/false);
  for (const Case& c : {Case{2, 1, 45, 4, 2, 64, true}, Case{1, 30, 30, 2, 2, 20, true},
                        Case{1, 30, 30, 2, 2, 136, false}}) {
    check_own_kernel(c, DType::kBFloat16);
    CHECK(Settings::current().refusal != "");
  }
}

TEST_CASE("gradients of attention on a GPU are the same bytes every time") {
  for (const bool own_kernel : {true, false}) {
    CAPTURE(own_kernel);
    const Settings settings(own_kernel, /*deterministic=*/true);
    const Problem p(cut({2, 640, 640, 4, 2, 64, true}), DType::kBFloat16);
    const Gradients first = p.backward();
    for (int i = 0; i < 3; ++i) {
      const Gradients again = p.backward();
      CHECK(same_on_gpu(again.dq, first.dq));
      CHECK(same_on_gpu(again.dk, first.dk));
      CHECK(same_on_gpu(again.dv, first.dv));
    }
  }
}

}  // namespace hew
