#include "kernels/adamw.h"

#include <doctest/doctest.h>

#include <cmath>

#include "tests/support/compare.h"
#include "tests/support/random.h"

namespace hew {
namespace {

// The formula, one element at a time, in double.
void adamw_by_hand(const kernels::AdamWStep& s, const std::vector<double>& g,
                   const std::vector<std::int64_t>& birth, std::vector<double>& w,
                   std::vector<double>& m, std::vector<double>& v) {
  const std::size_t slice = w.size() / birth.size();
  for (std::size_t i = 0; i < w.size(); ++i) {
    const double t = static_cast<double>(s.step - birth[i / slice] + 1);
    const double grad = s.grad_scale * g[i];
    m[i] = s.beta1 * m[i] + (1 - s.beta1) * grad;
    v[i] = s.beta2 * v[i] + (1 - s.beta2) * grad * grad;
    const double m_hat = m[i] / (1 - std::pow(s.beta1, t));
    const double v_hat = v[i] / (1 - std::pow(s.beta2, t));
    w[i] -= s.lr * s.weight_decay * w[i];
    w[i] -= s.lr * m_hat / (std::sqrt(v_hat) + s.eps);
  }
}

std::vector<double> wide(const Tensor& t) {
  if (t.dtype() == DType::kFloat64)
    return t.to_vector<double>();
  const std::vector<float> narrow = t.to_vector<float>();
  return {narrow.begin(), narrow.end()};
}

}  // namespace

TEST_CASE_TEMPLATE("adamw follows its formula over 25 steps", T, float, double) {
  const Stream cpu = make_cpu_stream();
  const double tolerance = std::is_same_v<T, float> ? 2e-5 : 1e-12;
  struct Case {
    Shape shape;
    std::vector<std::int64_t> birth;
  };
  const std::vector<Case> cases{{{1}, {0}},
                                {{7, 3}, {0}},
                                {{10007}, {0}},
                                {{5, 8, 8}, {0, 0, -3, 0, -3}},
                                {{3, 61, 61}, {-1, 0, 0}}};
  for (const auto& [shape, birth] : cases) {
    Tensor w = test::random_tensor(shape, kDTypeOf<T>, cpu, 1);
    Tensor m = Tensor::zeros(shape, kDTypeOf<T>, cpu);
    Tensor v = Tensor::zeros(shape, kDTypeOf<T>, cpu);
    std::vector<double> w_hand = wide(w);
    std::vector<double> m_hand = wide(m);
    std::vector<double> v_hand = wide(v);
    const Tensor births = Tensor::from(birth, {static_cast<std::int64_t>(birth.size())}, cpu);
    for (std::int64_t step = 0; step < 25; ++step) {
      const Tensor g =
          test::random_tensor(shape, kDTypeOf<T>, cpu, 100 + static_cast<std::uint64_t>(step));
      const kernels::AdamWStep settings{.lr = 0.01,
                                        .beta1 = 0.9,
                                        .beta2 = 0.95,
                                        .eps = 1e-8,
                                        .weight_decay = 0.1,
                                        .grad_scale = 0.7,
                                        .step = step};
      kernels::adamw(settings, {.g = g, .birth = births, .w = w, .m = m, .v = v}, cpu);
      adamw_by_hand(settings, wide(g), birth, w_hand, m_hand, v_hand);
    }
    HEW_CHECK_CLOSE(w, Tensor::from(w_hand, shape, cpu), tolerance, tolerance);
    HEW_CHECK_CLOSE(m, Tensor::from(m_hand, shape, cpu), tolerance, tolerance);
    HEW_CHECK_CLOSE(v, Tensor::from(v_hand, shape, cpu), tolerance, tolerance);
    // The comparison has teeth: another decay, or bias corrected from the wrong birth, is seen.
    kernels::adamw({.lr = 0.01, .step = 25}, {.g = v, .birth = births, .w = w, .m = m, .v = v},
                   cpu);
    CHECK_FALSE(test::compare(w, Tensor::from(w_hand, shape, cpu), tolerance, tolerance).ok);
  }
}

// torch 1.13, float64:
//   w = Parameter(tensor([0.5, -1.0, 2.0, 0.0, -0.25]))
//   opt = AdamW([w], lr=0.05, betas=(0.9, 0.95), eps=1e-6, weight_decay=0.1)
//   for i in range(20): w.grad = cos(i * (arange(5) + 1)) + 0.1 * w.detach(); opt.step()
TEST_CASE("adamw agrees with torch.optim.AdamW") {
  const Stream cpu = make_cpu_stream();
  Tensor w = Tensor::from(std::vector<double>{0.5, -1.0, 2.0, 0.0, -0.25}, {5}, cpu);
  Tensor g = Tensor::zeros({5}, DType::kFloat64, cpu);
  Tensor m = Tensor::zeros({5}, DType::kFloat64, cpu);
  Tensor v = Tensor::zeros({5}, DType::kFloat64, cpu);
  const Tensor birth = Tensor::from(std::vector<std::int64_t>{0}, {1}, cpu);
  for (std::int64_t step = 0; step < 20; ++step) {
    for (std::int64_t k = 0; k < 5; ++k) {
      g.data<double>()[k] =
          std::cos(static_cast<double>(step * (k + 1))) + 0.1 * w.data<double>()[k];
    }
    kernels::adamw(
        {.lr = 0.05, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-6, .weight_decay = 0.1, .step = step},
        {.g = g, .birth = birth, .w = w, .m = m, .v = v}, cpu);
  }
  const std::vector<double> torch{0.29495755295876164, -0.8783015919839742, 1.506669812700956,
                                  -0.08602838587233921, -0.2925140934945489};
  HEW_CHECK_CLOSE(w, Tensor::from(torch, {5}, cpu), 1e-12);
}

TEST_CASE("a block born at step 7 moves as a fresh parameter does, bit for bit") {
  const Stream cpu = make_cpu_stream();
  constexpr std::int64_t kBorn = 7;
  Tensor old = test::random_tensor({2, 8, 8}, DType::kFloat32, cpu, 1);
  Tensor old_m = Tensor::zeros({2, 8, 8}, DType::kFloat32, cpu);
  Tensor old_v = Tensor::zeros({2, 8, 8}, DType::kFloat32, cpu);
  Tensor fresh = Tensor::zeros({1, 8, 8}, DType::kFloat32, cpu);
  Tensor fresh_m = fresh.clone();
  Tensor fresh_v = fresh.clone();
  std::vector<std::int64_t> births{0, 0};
  for (std::int64_t step = 0; step < 20; ++step) {
    if (step == kBorn) {
      for (Tensor* t : {&old, &old_m, &old_v}) t->rows(1, 1).fill_zero();
      births[1] = kBorn;
    }
    const Tensor g =
        test::random_tensor({2, 8, 8}, DType::kFloat32, cpu, 50 + static_cast<std::uint64_t>(step));
    kernels::adamw(
        {.weight_decay = 0.1, .step = step},
        {.g = g, .birth = Tensor::from(births, {2}, cpu), .w = old, .m = old_m, .v = old_v}, cpu);
    if (step < kBorn)
      continue;
    kernels::adamw({.weight_decay = 0.1, .step = step - kBorn},
                   {.g = g.rows(1, 1),
                    .birth = Tensor::from(std::vector<std::int64_t>{0}, {1}, cpu),
                    .w = fresh,
                    .m = fresh_m,
                    .v = fresh_v},
                   cpu);
    CHECK(test::same_bytes(old.rows(1, 1), fresh));
  }
}

TEST_CASE("adamw refuses what does not fit") {
  const Stream cpu = make_cpu_stream();
  Tensor w = Tensor::zeros({4, 2}, DType::kFloat32, cpu);
  Tensor m = w.clone();
  Tensor v = w.clone();
  auto births = [&cpu](std::vector<std::int64_t> b) {
    return Tensor::from(b, {static_cast<std::int64_t>(b.size())}, cpu);
  };
  CHECK_THROWS_AS(
      kernels::adamw({}, {.g = w.reshape({8}), .birth = births({0}), .w = w, .m = m, .v = v}, cpu),
      ShapeError);
  CHECK_THROWS_AS(kernels::adamw({},
                                 {.g = Tensor::zeros({4, 2}, DType::kFloat64, cpu),
                                  .birth = births({0}),
                                  .w = w,
                                  .m = m,
                                  .v = v},
                                 cpu),
                  DtypeError);
  CHECK_THROWS_AS(
      kernels::adamw({}, {.g = w, .birth = births({0, 0}), .w = w, .m = m, .v = v}, cpu),
      ShapeError);
  CHECK_THROWS_AS(
      kernels::adamw(
          {}, {.g = w, .birth = Tensor::zeros({1}, DType::kFloat32, cpu), .w = w, .m = m, .v = v},
          cpu),
      DtypeError);
  CHECK_THROWS_AS(
      kernels::adamw({.step = 2}, {.g = w, .birth = births({0, 3, 0, 0}), .w = w, .m = m, .v = v},
                     cpu),
      ConfigError);
}

}  // namespace hew
