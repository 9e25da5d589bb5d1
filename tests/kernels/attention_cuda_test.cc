#include "kernels/attention.h"

#include <doctest/doctest.h>

#include <cmath>

#include "kernels/attention_cudnn.h"
#include "kernels/attention_settings.h"
#include "tests/support/attention_problem.h"

namespace hew {
namespace {

using Case = test::AttentionCase;
using Problem = test::AttentionProblem;
using Gradients = test::AttentionGradients;
using Bounds = test::AttentionBounds;
using test::cut;
using test::same_on_gpu;

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
