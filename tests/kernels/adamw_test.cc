#include "kernels/adamw.h"

#include <doctest/doctest.h>

#include <cmath>

#include "kernels/elementwise.h"
#include "tests/support/compare.h"
#include "tests/support/device.h"
#include "tests/support/random.h"

namespace hew {
namespace {

constexpr double kGradScale = 0.7;
constexpr double kDecay = 0.1;
constexpr double kFactor = 2.5;  // on the learning rate

void update(const kernels::AdamWStep& settings, const kernels::AdamWTensors& one,
            const Stream& stream) {
  kernels::adamw(settings, {&one, 1}, stream);
}

// The formula, one element at a time, in double.
void adamw_by_hand(const kernels::AdamWStep& s, const std::vector<double>& g,
                   const std::vector<std::int64_t>& birth, std::vector<double>& w,
                   std::vector<double>& m, std::vector<double>& v) {
  const std::size_t slice = w.size() / birth.size();
  for (std::size_t i = 0; i < w.size(); ++i) {
    const double t = static_cast<double>(s.step - birth[i / slice] + 1);
    const double grad = kGradScale * g[i];
    m[i] = s.beta1 * m[i] + (1 - s.beta1) * grad;
    v[i] = s.beta2 * v[i] + (1 - s.beta2) * grad * grad;
    const double m_hat = m[i] / (1 - std::pow(s.beta1, t));
    const double v_hat = v[i] / (1 - std::pow(s.beta2, t));
    w[i] -= s.lr * kDecay * w[i];
    w[i] -= kFactor * s.lr * m_hat / (std::sqrt(v_hat) + s.eps);
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
  const Stream& stream = test::test_stream();
  const double tolerance = std::is_same_v<T, float> ? 2e-5 : 1e-12;
  const Tensor grad_scale = Tensor::from(std::vector<double>{kGradScale}, {}, stream);
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
    Tensor w = test::random_tensor(shape, kDTypeOf<T>, stream, 1);
    Tensor m = Tensor::zeros(shape, kDTypeOf<T>, stream);
    Tensor v = Tensor::zeros(shape, kDTypeOf<T>, stream);
    std::vector<double> w_hand = wide(w);
    std::vector<double> m_hand = wide(m);
    std::vector<double> v_hand = wide(v);
    const Tensor births = Tensor::from(birth, {static_cast<std::int64_t>(birth.size())}, stream);
    for (std::int64_t step = 0; step < 25; ++step) {
      const Tensor g =
          test::random_tensor(shape, kDTypeOf<T>, stream, 100 + static_cast<std::uint64_t>(step));
      const kernels::AdamWStep settings{.lr = 0.01,
                                        .beta1 = 0.9,
                                        .beta2 = 0.95,
                                        .eps = 1e-8,
                                        .step = step,
                                        .grad_scale = grad_scale};
      update(settings,
             {.g = g,
              .birth = births,
              .w = w,
              .m = m,
              .v = v,
              .weight_decay = kDecay,
              .lr_factor = kFactor},
             stream);
      adamw_by_hand(settings, wide(g), birth, w_hand, m_hand, v_hand);
    }
    HEW_CHECK_CLOSE(w, Tensor::from(w_hand, shape, stream), tolerance, tolerance);
    HEW_CHECK_CLOSE(m, Tensor::from(m_hand, shape, stream), tolerance, tolerance);
    HEW_CHECK_CLOSE(v, Tensor::from(v_hand, shape, stream), tolerance, tolerance);
    // The comparison has teeth: another decay, or bias corrected from the wrong birth, is seen.
    update({.lr = 0.01, .step = 25}, {.g = v, .birth = births, .w = w, .m = m, .v = v}, stream);
    CHECK_FALSE(test::compare(w, Tensor::from(w_hand, shape, stream), tolerance, tolerance).ok);
  }
}

// torch 1.13, float64:
//   w = Parameter(tensor([0.5, -1.0, 2.0, 0.0, -0.25]))
//   opt = AdamW([w], lr=0.05, betas=(0.9, 0.95), eps=1e-6, weight_decay=0.1)
//   for i in range(20): w.grad = cos(i * (arange(5) + 1)) + 0.1 * w.detach(); opt.step()
TEST_CASE("adamw agrees with torch.optim.AdamW") {
  const Stream& stream = test::test_stream();
  Tensor w = Tensor::from(std::vector<double>{0.5, -1.0, 2.0, 0.0, -0.25}, {5}, stream);
  Tensor m = Tensor::zeros({5}, DType::kFloat64, stream);
  Tensor v = Tensor::zeros({5}, DType::kFloat64, stream);
  const Tensor birth = Tensor::from(std::vector<std::int64_t>{0}, {1}, stream);
  for (std::int64_t step = 0; step < 20; ++step) {
    std::vector<double> gradient = w.to_vector<double>();
    for (std::size_t k = 0; k < 5; ++k) {
      gradient[k] =
          std::cos(static_cast<double>(step) * static_cast<double>(k + 1)) + 0.1 * gradient[k];
    }
    const Tensor g = Tensor::from(gradient, {5}, stream);
    update({.lr = 0.05, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-6, .step = step},
           {.g = g, .birth = birth, .w = w, .m = m, .v = v, .weight_decay = 0.1}, stream);
  }
  const std::vector<double> torch{0.29495755295876164, -0.8783015919839742, 1.506669812700956,
                                  -0.08602838587233921, -0.2925140934945489};
  HEW_CHECK_CLOSE(w, Tensor::from(torch, {5}, stream), 1e-12);
}

TEST_CASE("a block born at step 7 moves as a fresh parameter does, bit for bit") {
  const Stream& stream = test::test_stream();
  constexpr std::int64_t kBorn = 7;
  Tensor old = test::random_tensor({2, 8, 8}, DType::kFloat32, stream, 1);
  Tensor old_m = Tensor::zeros({2, 8, 8}, DType::kFloat32, stream);
  Tensor old_v = Tensor::zeros({2, 8, 8}, DType::kFloat32, stream);
  Tensor fresh = Tensor::zeros({1, 8, 8}, DType::kFloat32, stream);
  Tensor fresh_m = fresh.clone();
  Tensor fresh_v = fresh.clone();
  std::vector<std::int64_t> births{0, 0};
  for (std::int64_t step = 0; step < 20; ++step) {
    if (step == kBorn) {
      for (Tensor* t : {&old, &old_m, &old_v}) t->rows(1, 1).fill_zero();
      births[1] = kBorn;
    }
    const Tensor g = test::random_tensor({2, 8, 8}, DType::kFloat32, stream,
                                         50 + static_cast<std::uint64_t>(step));
    update({.step = step},
           {.g = g,
            .birth = Tensor::from(births, {2}, stream),
            .w = old,
            .m = old_m,
            .v = old_v,
            .weight_decay = 0.1},
           stream);
    if (step < kBorn)
      continue;
    update({.step = step - kBorn},
           {.g = g.rows(1, 1),
            .birth = Tensor::from(std::vector<std::int64_t>{0}, {1}, stream),
            .w = fresh,
            .m = fresh_m,
            .v = fresh_v,
            .weight_decay = 0.1},
           stream);
    CHECK(test::same_bytes(old.rows(1, 1), fresh));
  }
}

TEST_CASE("one call updates several parameters, each with its own decay, and working copies") {
  const Stream& stream = test::test_stream();
  const Tensor birth = Tensor::from(std::vector<std::int64_t>{0}, {1}, stream);
  const std::vector<std::int64_t> sizes{1, 0, 5003, 64};
  std::vector<std::vector<Tensor>> together;  // g, w, m, v, working
  std::vector<std::vector<Tensor>> alone;
  std::vector<kernels::AdamWTensors> all;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    auto make = [&](std::uint64_t seed) {
      return test::random_tensor({sizes[i]}, DType::kFloat32, stream, 10 * i + seed);
    };
    auto zeros = [&] { return Tensor::zeros({sizes[i]}, DType::kFloat32, stream); };
    for (auto* list : {&together, &alone}) {
      list->push_back({make(0), make(1), zeros(), zeros(),
                       Tensor::zeros({sizes[i]}, DType::kBFloat16, stream)});
    }
    auto tensors = [&](std::vector<Tensor>& t) {
      return kernels::AdamWTensors{.g = t[0],
                                   .birth = birth,
                                   .w = t[1],
                                   .m = t[2],
                                   .v = t[3],
                                   .working = i == 2 ? t[4].view() : View{},
                                   .weight_decay = 0.1 * static_cast<double>(i)};
    };
    all.push_back(tensors(together[i]));
    update({.lr = 0.1}, tensors(alone[i]), stream);
  }
  kernels::adamw({.lr = 0.1}, all, stream);
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    for (std::size_t k = 1; k < 5; ++k) CHECK(test::same_bytes(together[i][k], alone[i][k]));
  }
  Tensor rounded = together[2][4].clone();
  kernels::cast(together[2][1], rounded, stream);
  CHECK(test::same_bytes(together[2][4], rounded));
}

TEST_CASE("a scale that is not finite leaves everything as it was") {
  const Stream& stream = test::test_stream();
  Tensor w = test::random_tensor({37}, DType::kFloat32, stream, 1);
  Tensor m = test::random_tensor({37}, DType::kFloat32, stream, 2);
  Tensor v = Tensor::zeros({37}, DType::kFloat32, stream);
  Tensor working = Tensor::zeros({37}, DType::kBFloat16, stream);
  const std::vector<Tensor> before{w.clone(), m.clone(), v.clone(), working.clone()};
  for (const double scale : {std::nan(""), HUGE_VAL}) {
    update({.grad_scale = Tensor::from(std::vector<double>{scale}, {}, stream)},
           {.g = m,
            .birth = Tensor::zeros({1}, DType::kInt64, stream),
            .w = w,
            .m = m,
            .v = v,
            .working = working,
            .weight_decay = 0.1},
           stream);
    CHECK(test::same_bytes(w, before[0]));
    CHECK(test::same_bytes(m, before[1]));
    CHECK(test::same_bytes(v, before[2]));
    CHECK(test::same_bytes(working, before[3]));
  }
}

TEST_CASE_TEMPLATE("moments in bfloat16 are computed in w's dtype and rounded as they are stored",
                   T, float, double) {
  const Stream& stream = test::test_stream();
  constexpr DType kWide = kDTypeOf<T>;
  const Shape shape{3, 7, 241};
  const Tensor births = Tensor::from(std::vector<std::int64_t>{0, -2, 0}, {3}, stream);
  auto cast = [&stream, &shape](const Tensor& from, DType dtype) {
    Tensor out = Tensor::empty(shape, dtype, stream);
    kernels::cast(from, out, stream);
    return out;
  };
  Tensor w = test::random_tensor(shape, kWide, stream, 1);
  Tensor m = Tensor::zeros(shape, DType::kBFloat16, stream);
  Tensor v = Tensor::zeros(shape, DType::kBFloat16, stream);
  for (std::int64_t step = 0; step < 10; ++step) {
    const Tensor g =
        test::random_tensor(shape, kWide, stream, 100 + static_cast<std::uint64_t>(step));
    Tensor wide_w = w.clone();
    Tensor wide_m = cast(m, kWide);
    Tensor wide_v = cast(v, kWide);
    const kernels::AdamWStep settings{.lr = 0.01, .beta2 = 0.95, .step = step};
    update(settings, {.g = g, .birth = births, .w = w, .m = m, .v = v}, stream);
    update(settings, {.g = g, .birth = births, .w = wide_w, .m = wide_m, .v = wide_v}, stream);
    CHECK(test::same_bytes(w, wide_w));
    CHECK(test::same_bytes(m, cast(wide_m, DType::kBFloat16)));
    CHECK(test::same_bytes(v, cast(wide_v, DType::kBFloat16)));
  }
}

TEST_CASE("adamw refuses what does not fit") {
  const Stream& stream = test::test_stream();
  Tensor w = Tensor::zeros({4, 2}, DType::kFloat32, stream);
  Tensor m = w.clone();
  Tensor v = w.clone();
  auto births = [&stream](std::vector<std::int64_t> b) {
    return Tensor::from(b, {static_cast<std::int64_t>(b.size())}, stream);
  };
  CHECK_THROWS_AS(
      update({}, {.g = w.reshape({8}), .birth = births({0}), .w = w, .m = m, .v = v}, stream),
      ShapeError);
  CHECK_THROWS_AS(update({},
                         {.g = Tensor::zeros({4, 2}, DType::kFloat64, stream),
                          .birth = births({0}),
                          .w = w,
                          .m = m,
                          .v = v},
                         stream),
                  DtypeError);
  CHECK_THROWS_AS(update({}, {.g = w, .birth = births({0, 0}), .w = w, .m = m, .v = v}, stream),
                  ShapeError);
  CHECK_THROWS_AS(
      update({},
             {.g = w, .birth = Tensor::zeros({1}, DType::kFloat32, stream), .w = w, .m = m, .v = v},
             stream),
      DtypeError);
  if (!test::on_gpu()) {  // which does not wait for the host, and gives NaN
    CHECK_THROWS_AS(update({.step = 2},
                           {.g = w, .birth = births({0, 3, 0, 0}), .w = w, .m = m, .v = v}, stream),
                    ConfigError);
  }
  Tensor half = Tensor::zeros({4, 2}, DType::kBFloat16, stream);
  const Tensor zero = births({0});
  CHECK_THROWS_AS(update({}, {.g = w, .birth = zero, .w = w, .m = m, .v = half}, stream),
                  DtypeError);
  CHECK_THROWS_AS(update({}, {.g = w, .birth = zero, .w = w, .m = m, .v = v, .working = w}, stream),
                  DtypeError);
  CHECK_THROWS_AS(update({}, {.g = half, .birth = zero, .w = half, .m = half, .v = half}, stream),
                  DtypeError);
  CHECK_THROWS_AS(
      update({.grad_scale = w}, {.g = w, .birth = zero, .w = w, .m = m, .v = v}, stream),
      ShapeError);
  // Whatever is wrong with the last parameter, the first is not updated.
  Tensor ones = Tensor::from(std::vector<float>(8, 1), {4, 2}, stream);
  const std::vector<kernels::AdamWTensors> two{
      {.g = ones, .birth = zero, .w = w, .m = m, .v = v},
      {.g = ones, .birth = births({1}), .w = ones, .m = half, .v = half}};
  CHECK_THROWS_AS(kernels::adamw({}, two, stream), DtypeError);
  Tensor late = births({1});
  const std::vector<kernels::AdamWTensors> born_late{
      two[0], {.g = ones, .birth = late, .w = ones, .m = m, .v = v}};
  if (!test::on_gpu())
    CHECK_THROWS_AS(kernels::adamw({}, born_late, stream), ConfigError);
  CHECK(test::same_bytes(w, Tensor::zeros({4, 2}, DType::kFloat32, stream)));
}

}  // namespace hew
