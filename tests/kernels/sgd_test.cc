#include "kernels/sgd.h"

#include <doctest/doctest.h>

#include <cmath>

#include "kernels/elementwise.h"
#include "tests/support/compare.h"
#include "tests/support/device.h"
#include "tests/support/random.h"

namespace hew {
namespace {

// An update of one parameter.
void update(const kernels::SgdStep& settings, const kernels::SgdTensors& one,
            const Stream& stream) {
  kernels::sgd(settings, {&one, 1}, stream);
}

}  // namespace

TEST_CASE_TEMPLATE("sgd follows its formula over 20 steps", T, float, double) {
  const Stream& stream = test::test_stream();
  const double tolerance = std::is_same_v<T, float> ? 2e-5 : 1e-12;
  const Tensor half = Tensor::from(std::vector<double>{0.5}, {}, stream);
  for (const bool nesterov : {false, true}) {
    for (const std::int64_t n : {1, 7, 10007}) {
      Tensor w = test::random_tensor({n}, kDTypeOf<T>, stream, 1);
      Tensor buffer = Tensor::zeros({n}, kDTypeOf<T>, stream);
      Tensor working = Tensor::zeros({n}, DType::kBFloat16, stream);
      const std::vector<T> start = w.template to_vector<T>();
      std::vector<double> w_hand(start.begin(), start.end());
      std::vector<double> b_hand(w_hand.size());
      for (std::uint64_t step = 0; step < 20; ++step) {
        const Tensor g = test::random_tensor({n}, kDTypeOf<T>, stream, 100 + step);
        update({.lr = 0.05, .momentum = 0.9, .nesterov = nesterov, .grad_scale = half},
               {.g = g,
                .w = w,
                .buffer = buffer,
                .working = working,
                .weight_decay = 0.01,
                .lr_factor = 2},
               stream);
        const std::vector<T> vg = g.template to_vector<T>();
        for (std::size_t i = 0; i < w_hand.size(); ++i) {
          const double d = 0.5 * static_cast<double>(vg[i]) + 0.01 * w_hand[i];
          b_hand[i] = step == 0 ? d : 0.9 * b_hand[i] + d;
          w_hand[i] -= 2 * 0.05 * (nesterov ? d + 0.9 * b_hand[i] : b_hand[i]);
        }
      }
      HEW_CHECK_CLOSE(w, Tensor::from(w_hand, {n}, stream), tolerance, tolerance);
      HEW_CHECK_CLOSE(buffer, Tensor::from(b_hand, {n}, stream), tolerance, tolerance);
      Tensor rounded = working.clone();
      kernels::cast(w, rounded, stream);
      CHECK(test::same_bytes(working, rounded));
    }
  }
}

// torch 1.13, float64:
//   w = Parameter(tensor([0.5, -1.0, 2.0, 0.0, -0.25]))
//   opt = SGD([w], lr=0.05, momentum=MOMENTUM, weight_decay=0.01, nesterov=NESTEROV)
//   for i in range(20): w.grad = cos(i * (arange(5) + 1)) + 0.1 * w.detach(); opt.step()
TEST_CASE("sgd agrees with torch.optim.SGD") {
  struct Case {
    double momentum;
    bool nesterov;
    std::vector<double> torch;
  };
  const std::vector<Case> cases{{0.9,
                                 false,
                                 {0.09733424608461899, -0.5991586713409952, 0.7200572437102122,
                                  -0.14890362816102728, -0.22344814789208406}},
                                {0.9,
                                 true,
                                 {0.06360836332479487, -0.602289925528722, 0.6731015174893454,
                                  -0.15494780481038803, -0.20962604163580492}},
                                {0,
                                 false,
                                 {0.3936656701916002, -0.9467145683906594, 1.7453416187326152,
                                  -0.036637780362209944, -0.24175928538010813}}};
  const Stream& stream = test::test_stream();
  for (const auto& [momentum, nesterov, torch] : cases) {
    Tensor w = Tensor::from(std::vector<double>{0.5, -1.0, 2.0, 0.0, -0.25}, {5}, stream);
    Tensor buffer = Tensor::zeros({5}, DType::kFloat64, stream);
    for (std::int64_t step = 0; step < 20; ++step) {
      std::vector<double> gradient = w.to_vector<double>();
      for (std::size_t k = 0; k < 5; ++k) {
        gradient[k] =
            std::cos(static_cast<double>(step) * static_cast<double>(k + 1)) + 0.1 * gradient[k];
      }
      const Tensor g = Tensor::from(gradient, {5}, stream);
      update(
          {.lr = 0.05, .momentum = momentum, .nesterov = nesterov},
          {.g = g, .w = w, .buffer = momentum == 0 ? View{} : buffer.view(), .weight_decay = 0.01},
          stream);
    }
    HEW_CHECK_CLOSE(w, Tensor::from(torch, {5}, stream), 1e-12);
  }
}

TEST_CASE("sgd refuses what does not fit") {
  const Stream& stream = test::test_stream();
  Tensor w = Tensor::zeros({4}, DType::kFloat32, stream);
  CHECK_THROWS_AS(update({}, {.g = Tensor::zeros({5}, DType::kFloat32, stream), .w = w}, stream),
                  ShapeError);
  Tensor wide = Tensor::zeros({4}, DType::kFloat64, stream);
  CHECK_THROWS_AS(update({}, {.g = w, .w = w, .buffer = wide}, stream), DtypeError);
  CHECK_THROWS_AS(update({}, {.g = w, .w = w, .working = w}, stream), DtypeError);
  CHECK_THROWS_AS(update({.grad_scale = wide}, {.g = w, .w = w}, stream), ShapeError);
  CHECK_THROWS_AS(update({.momentum = 0.9}, {.g = w, .w = w}, stream), ConfigError);
}

TEST_CASE("one call for many parameters is what a call for each would be") {
  const Stream& stream = test::test_stream();
  const Tensor g = test::random_tensor({1021}, DType::kFloat32, stream, 1);
  Tensor w = test::random_tensor({1021}, DType::kFloat32, stream, 2);
  Tensor buffer = test::random_tensor({1021}, DType::kFloat32, stream, 3);
  Tensor w_alone = w.clone();
  Tensor buffer_alone = buffer.clone();
  const kernels::SgdStep settings{.lr = 0.05, .momentum = 0.9};
  std::vector<kernels::SgdTensors> together;
  std::int64_t begin = 0;
  for (const std::int64_t count : {1, 0, 500, 7, 513}) {
    const double decay = count == 7 ? 0.1 : 0;
    together.push_back({.g = std::as_const(g).rows(begin, count),
                        .w = w.rows(begin, count),
                        .buffer = buffer.rows(begin, count),
                        .weight_decay = decay});
    update(settings,
           {.g = std::as_const(g).rows(begin, count),
            .w = w_alone.rows(begin, count),
            .buffer = buffer_alone.rows(begin, count),
            .weight_decay = decay},
           stream);
    begin += count;
  }
  kernels::sgd(settings, together, stream);
  CHECK(test::same_bytes(w, w_alone));
  CHECK(test::same_bytes(buffer, buffer_alone));
  kernels::sgd(settings, {}, stream);
  Tensor wide = Tensor::zeros({4}, DType::kFloat64, stream);
  together.push_back({.g = wide, .w = wide, .buffer = wide});
  CHECK_THROWS_AS(kernels::sgd(settings, together, stream), DtypeError);
}

TEST_CASE("a scale that is not finite leaves everything as it was") {
  const Stream& stream = test::test_stream();
  Tensor w = test::random_tensor({37}, DType::kFloat32, stream, 1);
  Tensor buffer = test::random_tensor({37}, DType::kFloat32, stream, 2);
  const Tensor w_before = w.clone();
  const Tensor buffer_before = buffer.clone();
  const Tensor scale = Tensor::from(std::vector<double>{std::nan("")}, {}, stream);
  update({.momentum = 0.9, .grad_scale = scale},
         {.g = buffer_before, .w = w, .buffer = buffer, .weight_decay = 0.1}, stream);
  CHECK(test::same_bytes(w, w_before));
  CHECK(test::same_bytes(buffer, buffer_before));
}

}  // namespace hew
