#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include "core/cuda_device.h"
#include "kernels/bsr.h"
#include "kernels/bsr_routes.h"
#include "kernels/product_settings.h"
#include "tests/support/block_pattern.h"
#include "tests/support/compare.h"
#include "tests/support/gpu_input.h"

namespace hew {
namespace {

using kernels::BsrIndex;
using test::BlockPattern;
using test::gpu_stream;

constexpr std::int64_t kTokens = 96;
constexpr int kHopper = 90;

// Own kernels of float32, as tf32 or not.
void use(bool tf32) {
  const Stream& gpu = gpu_stream();
  gpu.state->get<kernels::ProductSettings>(gpu).tf32 = tf32;
  gpu.state->get<kernels::BsrSettings>(gpu).folding = kernels::BsrFolding::kOwn;
}

Tensor filled(const Shape& shape, double value) {
  const std::vector<float> all(static_cast<std::size_t>(shape.numel()), static_cast<float>(value));
  return Tensor::from(all, shape, gpu_stream());
}

void check_all_are(const Tensor& result, double wanted) {
  const std::vector<float> values = test::on_cpu(result).to_vector<float>();
  CAPTURE(values.front());
  CAPTURE(wanted);
  CHECK(std::ranges::all_of(values, [&](float v) { return v == wanted; }));
}

struct Factors {
  double x = 1;
  double dy = 1;
  double values = 1;
};

// Results of a full matrix are a number of terms, each `term`.
void check_products(const BlockPattern& p, const Factors& factors, double term) {
  const test::UploadedPattern uploaded(p, gpu_stream());
  const BsrIndex index = uploaded.index();
  const Tensor x = filled({kTokens, p.cols}, factors.x);
  const Tensor dy = filled({kTokens, p.rows}, factors.dy);
  const Tensor values = filled(p.values_shape(), factors.values);
  const bool forward = factors.x != factors.values;
  const bool input_gradient = factors.dy != factors.values;
  Tensor y = test::poisoned(dy.shape(), DType::kFloat32, gpu_stream());
  Tensor dx = test::poisoned(x.shape(), DType::kFloat32, gpu_stream());
  Tensor dvalues = test::poisoned(values.shape(), DType::kFloat32, gpu_stream());
  if (forward) {
    kernels::bsr_forward({.x = x, .values = values, .index = index, .y = y}, gpu_stream());
    check_all_are(y, static_cast<double>(p.cols) * term);
  }
  if (input_gradient) {
    kernels::bsr_input_gradient({.dy = dy, .values = values, .index = index, .dx = dx},
                                gpu_stream());
    check_all_are(dx, static_cast<double>(p.rows) * term);
  }
  if (factors.dy != factors.x) {
    kernels::bsr_weight_gradient({.dy = dy, .x = x, .index = index, .dvalues = dvalues},
                                 gpu_stream());
    check_all_are(dvalues, static_cast<double>(kTokens) * term);
  }
}

Tensor magnitudes(const Tensor& t) {
  Tensor out = t.clone();
  for (double& v : std::span(out.data<double>(), static_cast<std::size_t>(out.numel())))
    v = std::abs(v);
  return out;
}

std::vector<double> forward_on_cpu(const Tensor& x, const Tensor& values, const BlockPattern& p) {
  Tensor y = Tensor::empty({x.size(0), p.rows}, DType::kFloat64, make_cpu_stream());
  kernels::bsr_forward({.x = x, .values = values, .index = p.index(), .y = y}, make_cpu_stream());
  return y.to_vector<double>();
}

}  // namespace

// Factors 1 + ¾·2⁻¹⁰ are rounded up to 1 + 2⁻¹⁰ in tf32 and kept in float32; cut, they would be 1.
// The others are 1, and no sum needs more than 24 bits.
TEST_CASE("factors of float32 are rounded to nearest tf32 where that is allowed, else not at all") {
  constexpr double kFactor = 1 + 0.75 / 1024;
  for (const bool tf32 : {false, true}) {
    CAPTURE(tf32);
    use(tf32);
    const bool rounds = tf32 && cuda::compute_capability(gpu_stream()) == kHopper;
    const double term = rounds ? 1 + 1.0 / 1024 : kFactor;
    for (const std::int64_t b : {32, 64, 128}) {
      CAPTURE(b);
      const BlockPattern p = test::random_pattern(2 * b, 3 * b, b, 1, 8);
      check_products(p, {.x = kFactor}, term);
      check_products(p, {.dy = kFactor}, term);
      check_products(p, {.values = kFactor}, term);
    }
  }
}

// Each factor errs by 2⁻¹¹ of itself at most, a product by little more than twice that; the sum as
// one in float32 does.
TEST_CASE("products in tf32 err by no more than the rounding of their factors") {
  use(/*tf32=*/true);
  for (const std::int64_t b : {16, 32, 64, 128}) {
    CAPTURE(b);
    const BlockPattern p = test::random_pattern(3 * b, 5 * b, b, 0.6, 8);
    const test::UploadedPattern uploaded(p, gpu_stream());
    const test::GpuInput x = test::gpu_input({300, p.cols}, DType::kFloat32, 1);
    const test::GpuInput values = test::gpu_input(p.values_shape(), DType::kFloat32, 2);
    const std::vector<double> wanted = forward_on_cpu(x.wide, values.wide, p);
    const std::vector<double> most = forward_on_cpu(magnitudes(x.wide), magnitudes(values.wide), p);
    Tensor y = test::poisoned({300, p.rows}, DType::kFloat32, gpu_stream());
    kernels::bsr_forward({.x = x.gpu, .values = values.gpu, .index = uploaded.index(), .y = y},
                         gpu_stream());
    const std::vector<float> got = test::on_cpu(y).to_vector<float>();
    const double of_sums = static_cast<double>(p.cols) * test::unit_roundoff(DType::kFloat32);
    for (std::size_t i = 0; i < got.size(); ++i) {
      CAPTURE(i);
      REQUIRE(std::abs(static_cast<double>(got[i]) - wanted[i]) <=
              (1.01 / 1024 + of_sums) * most[i]);
    }
  }
}

}  // namespace hew
