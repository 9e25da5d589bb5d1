#include <doctest/doctest.h>

#include <bit>
#include <cmath>

#include "kernels/product_settings.h"
#include "tests/support/attention_problem.h"

namespace hew {
namespace {

using Case = test::AttentionCase;
using Problem = test::AttentionProblem;
using Gradients = test::AttentionGradients;
using Bounds = test::AttentionBounds;
using test::cut;
using test::same_on_gpu;

constexpr double kTf32Roundoff = 0x1p-11;  // 10 bits of mantissa

// Lets the GPU's stream use tf32 to the end of a test.
class Tf32 {
 public:
  Tf32() { allow(true); }
  Tf32(const Tf32&) = delete;
  Tf32& operator=(const Tf32&) = delete;
  ~Tf32() { allow(false); }

 private:
  static void allow(bool tf32) {
    const Stream& gpu = test::gpu_stream();
    gpu.state->get<kernels::ProductSettings>(gpu).tf32 = tf32;
  }
};

template <class F>
Tensor mapped_bits(const Tensor& values, F map) {
  std::vector<double> out = values.to_vector<double>();
  for (double& x : out)
    x = std::bit_cast<float>(map(std::bit_cast<std::uint32_t>(static_cast<float>(x))));
  return Tensor::from(out, values.shape(), values.stream());
}

// Values of float32 that are neither tf32 nor half way between two of them.
Tensor between_tf32(const Tensor& values) {
  return mapped_bits(values, [](std::uint32_t bits) { return bits | 1U; });
}

// The tf32 nearest to these.
Tensor nearest_tf32(const Tensor& values) {
  return mapped_bits(between_tf32(values),
                     [](std::uint32_t bits) { return (bits + 0x1000U) & 0xFFFFE000U; });
}

struct Outputs {
  explicit Outputs(const Problem& p)
      : y(test::poisoned(p.c.q_shape(), p.dtype, test::gpu_stream())),
        lse(test::poisoned(p.c.lse_shape(), p.dtype, test::gpu_stream())),
        gradients(p.backward()) {
    p.forward(y, lse);
  }
  Tensor y;
  Tensor lse;
  Gradients gradients;
};

bool same(const Outputs& a, const Outputs& b) {
  return same_on_gpu(a.y, b.y) && same_on_gpu(a.lse, b.lse) &&
         same_on_gpu(a.gradients.dq, b.gradients.dq) &&
         same_on_gpu(a.gradients.dk, b.gradients.dk) && same_on_gpu(a.gradients.dv, b.gradients.dv);
}

// Inputs are tf32, so that only weights and ds are rounded.
void check(const Case& whole) {
  const Case c = cut(whole);
  CAPTURE(c.text());
  const Problem p(c, DType::kFloat32, nearest_tf32);
  const Bounds bounds(p, kTf32Roundoff);
  const Outputs got(p);
  const double rounding = test::unit_roundoff(DType::kFloat32);
  HEW_CHECK_CLOSE(got.y, p.y_wanted, rounding, bounds.y);
  HEW_CHECK_CLOSE(got.lse, p.lse_wanted, 0, bounds.lse);
  HEW_CHECK_CLOSE(got.gradients.dq, p.wanted.dq, rounding, bounds.dq);
  HEW_CHECK_CLOSE(got.gradients.dk, p.wanted.dk, rounding, bounds.dk);
  HEW_CHECK_CLOSE(got.gradients.dv, p.wanted.dv, rounding, bounds.dv);
}

// With one key y is v, unless v is rounded to tf32 before it is multiplied by 1.
bool returns_v(const Problem& p) {
  Tensor y = test::poisoned(p.c.q_shape(), p.dtype, test::gpu_stream());
  Tensor lse = test::poisoned(p.c.lse_shape(), p.dtype, test::gpu_stream());
  p.forward(y, lse);
  return test::compare(y, p.v.wide, 4 * test::unit_roundoff(DType::kFloat32)).ok;
}

}  // namespace

TEST_CASE("attention in tf32 agrees with the CPU's in float64") {
  const Tf32 tf32;
  for (const bool causal : {true, false}) {
    for (const std::int64_t width : {8, 32, 64, 96, 128}) {
      for (const std::int64_t t : {1, 5, 64, 65, 197}) check({1, t, t, 2, 1, width, causal});
    }
    for (const Case& c : {Case{1, 1, 67, 4, 2, 64, causal}, Case{2, 5, 131, 2, 1, 40, causal},
                          Case{1, 67, 197, 6, 3, 64, causal}, Case{2, 129, 161, 4, 4, 128, causal},
                          Case{1, 300, 1025, 2, 1, 64, causal}, Case{3, 256, 256, 3, 3, 64, causal},
                          Case{1, 513, 513, 2, 2, 104, causal}}) {
      check(c);
    }
  }
  check({1, 50, 50, 2, 2, 24, true, 0.3});
  check({2, 70, 19, 2, 1, 24, false});  // fewer keys than queries
}

TEST_CASE("attention in tf32 rounds factors to nearest") {
  const Tf32 tf32;
  for (const std::int64_t width : {64, 128}) {
    const Problem p(cut({2, 65, 97, 4, 2, width, true}), DType::kFloat32, nearest_tf32);
    Problem raw = p;
    const auto unrounded = [](const Shape& shape, std::uint64_t seed) {
      return test::gpu_input(between_tf32(Problem::values(shape, seed)), DType::kFloat32);
    };
    raw.q = unrounded(p.c.q_shape(), 1);
    raw.k = unrounded(p.c.k_shape(), 2);
    raw.v = unrounded(p.c.k_shape(), 3);
    CHECK_FALSE(same_on_gpu(raw.q.gpu, p.q.gpu));
    CHECK(same(Outputs(raw), Outputs(p)));
  }
}

TEST_CASE("attention in tf32 gives the same bytes every time") {
  const Tf32 tf32;
  const Problem p(cut({2, 640, 640, 4, 2, 64, true}), DType::kFloat32);
  const Outputs first(p);
  for (int i = 0; i < 3; ++i) CHECK(same(Outputs(p), first));
}

TEST_CASE("attention uses tf32 where it may and can, else float32") {
  const Problem p({2, 1, 1, 3, 3, 64, true}, DType::kFloat32, between_tf32);
  CHECK(returns_v(p));
  const Tf32 tf32;
  CHECK_FALSE(returns_v(p));
  CHECK(returns_v(Problem({2, 1, 1, 3, 3, 20, true}, DType::kFloat32, between_tf32)));
  CHECK(returns_v(Problem({2, 1, 1, 3, 3, 136, true}, DType::kFloat32, between_tf32)));
  Problem shifted = p;
  shifted.k.gpu = test::misaligned(p.k.gpu);
  CHECK(returns_v(shifted));
}

TEST_CASE("attention in tf32 takes empty batches") {
  const Tf32 tf32;
  const Outputs empty(Problem({0, 4, 4, 2, 2, 8}, DType::kFloat32));
  synchronize(test::gpu_stream());
  CHECK(empty.y.numel() == 0);
}

}  // namespace hew
