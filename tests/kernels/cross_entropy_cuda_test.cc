#include "kernels/cross_entropy.h"

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <span>

#include "core/rng.h"
#include "kernels/elementwise.h"
#include "tests/support/compare.h"
#include "tests/support/device.h"
#include "tests/support/random.h"
#include "tests/support/sizes.h"

namespace hew {
namespace {

constexpr std::array kTypes{DType::kFloat32, DType::kFloat64, DType::kBFloat16};

// Tokens and vocabularies; 300 rows are more than there are blocks, which then go on to a next one.
// Of 2-byte logits the rows of the last do not fit into the shared memory of any GPU, of 8-byte
// logits those before it.
struct Size {
  std::int64_t tokens;
  std::int64_t vocabulary;
};
constexpr std::array kSizes{Size{1, 1},     Size{3, 2},       Size{7, 13},     Size{61, 257},
                            Size{5000, 72}, Size{6007, 37},   Size{701, 8200}, Size{601, 8219},
                            Size{3, 50304}, Size{300, 50304}, Size{5, 50257},  Size{141, 120001}};
// The same kernels. Long rows are more than there are blocks only where the next one is on its way
// to shared memory meanwhile (8200, bfloat16).
constexpr std::array kSmallSizes{Size{1, 1},     Size{3, 2},     Size{7, 13},     Size{61, 257},
                                 Size{2203, 8},  Size{2203, 11}, Size{141, 8200}, Size{5, 8219},
                                 Size{2, 50304}, Size{2, 50257}, Size{2, 120001}};

// An exponent of a dozen, rounded, and some fifty additions one after the other.
double sum_tolerance(DType dtype) {
  return 64 * test::epsilon(accumulator_of(dtype));
}

Tensor random_targets(const Size& size) {
  std::vector<std::int32_t> targets;
  for (std::int64_t m = 0; m < size.tokens; ++m) {
    const auto drawn = uniform_below(4, 0, static_cast<std::uint64_t>(m),
                                     static_cast<std::uint64_t>(size.vocabulary));
    targets.push_back(m % 5 == 2 ? kernels::kIgnoredTarget : static_cast<std::int32_t>(drawn));
  }
  return Tensor::from(targets, {size.tokens}, make_cpu_stream());
}

Tensor scalar(double value, DType dtype, const Stream& stream) {
  const Tensor wide = Tensor::from(std::vector<double>{value}, {}, make_cpu_stream());
  return test::to(test::rounded(wide, dtype), stream);
}

// Logits between two rows of others, so that rows begin anywhere.
struct Case {
  Case(const Size& size, DType type)
      : tokens(size.tokens),
        dtype(type),
        sums(accumulator_of(type)),
        targets(random_targets(size)) {
    Tensor drawn = test::random_tensor({tokens + 2, size.vocabulary}, DType::kFloat64, cpu, 1);
    kernels::scale(2, drawn, cpu);
    const Tensor narrow = test::rounded(drawn, dtype);
    surrounded = test::to(narrow, gpu);
    logits = surrounded.rows(1, tokens);
    wide = test::rounded(narrow, DType::kFloat64).rows(1, tokens);
    gpu_targets = test::to(targets, gpu);
  }

  const Stream& gpu = test::gpu_stream();
  Stream cpu = make_cpu_stream();
  std::int64_t tokens;
  DType dtype;
  DType sums;
  Tensor targets;
  Tensor gpu_targets;
  Tensor surrounded;
  Tensor logits;
  Tensor wide;
};

struct Expected {
  explicit Expected(const Case& c)
      : losses(Tensor::empty({c.tokens}, DType::kFloat64, c.cpu)),
        lse(Tensor::empty({c.tokens}, DType::kFloat64, c.cpu)),
        dlogits(Tensor::empty(c.wide.shape(), DType::kFloat64, c.cpu)) {
    kernels::token_losses({.logits = c.wide, .targets = c.targets, .losses = losses, .lse = lse},
                          c.cpu);
    kernels::cross_entropy_backward({.logits = c.wide,
                                     .targets = c.targets,
                                     .lse = lse,
                                     .weight = scalar(kWeight, DType::kFloat64, c.cpu),
                                     .dmean = scalar(kDmean, DType::kFloat64, c.cpu),
                                     .dlogits = dlogits},
                                    c.cpu);
  }

  static constexpr double kWeight = 0.375;
  static constexpr double kDmean = -1.5;
  Tensor losses;
  Tensor lse;
  Tensor dlogits;
};

template <class Body>
void for_all_cases(const Body& body) {
  const auto sizes = test::small_sizes() ? std::span<const Size>(kSmallSizes) : kSizes;
  for (const DType dtype : kTypes) {
    for (const Size& size : sizes) {
      CAPTURE(name_of(dtype));
      CAPTURE(size.tokens);
      CAPTURE(size.vocabulary);
      body(Case(size, dtype));
    }
  }
}

}  // namespace

TEST_CASE("token losses and their gradient on a GPU agree with the CPU's in float64") {
  for_all_cases([](Case c) {
    const Expected expected(c);
    const double tolerance = sum_tolerance(c.dtype);
    Tensor losses = test::poisoned({c.tokens}, c.sums, c.gpu);
    Tensor lse = test::poisoned({c.tokens}, c.sums, c.gpu);
    kernels::token_losses(
        {.logits = c.logits, .targets = c.gpu_targets, .losses = losses, .lse = lse}, c.gpu);
    HEW_CHECK_CLOSE(losses, expected.losses, tolerance, tolerance);
    HEW_CHECK_CLOSE(lse, expected.lse, tolerance, tolerance);

    auto backward = [&](Tensor& dlogits) {
      kernels::cross_entropy_backward({.logits = c.logits,
                                       .targets = c.gpu_targets,
                                       .lse = lse,
                                       .weight = scalar(Expected::kWeight, c.sums, c.gpu),
                                       .dmean = scalar(Expected::kDmean, c.sums, c.gpu),
                                       .dlogits = dlogits},
                                      c.gpu);
      HEW_CHECK_CLOSE(dlogits, expected.dlogits, test::unit_roundoff(c.dtype) + tolerance,
                      tolerance);
    };
    Tensor apart = test::poisoned(c.logits.shape(), c.dtype, c.gpu);
    backward(apart);
    backward(c.logits);
    CHECK(test::same_bytes(test::on_cpu(c.logits), test::on_cpu(apart)));
  });
}

TEST_CASE("the fused kernel on a GPU agrees with the CPU's in float64, and writes nothing else") {
  for_all_cases([](Case c) {
    const Expected expected(c);
    const double tolerance = sum_tolerance(c.dtype);
    const Tensor before = test::on_cpu(c.surrounded);
    Tensor again = test::to(c.surrounded, c.gpu);
    const double weight = Expected::kWeight * Expected::kDmean;
    Tensor losses = test::poisoned({c.tokens}, c.sums, c.gpu);
    auto run = [&](Tensor logits) {
      kernels::fused_cross_entropy({.logits = logits,
                                    .targets = c.gpu_targets,
                                    .weight = scalar(weight, c.sums, c.gpu),
                                    .losses = losses},
                                   c.gpu);
    };
    run(c.logits);
    HEW_CHECK_CLOSE(losses, expected.losses, tolerance, tolerance);
    HEW_CHECK_CLOSE(c.logits, expected.dlogits, test::unit_roundoff(c.dtype) + tolerance,
                    tolerance);
    const Tensor after = test::on_cpu(c.surrounded);
    for (const std::int64_t row : {std::int64_t{0}, c.tokens + 1}) {
      CHECK(test::same_bytes(after.rows(row, 1), before.rows(row, 1)));
    }
    const Tensor losses_before = test::on_cpu(losses);
    run(again.rows(1, c.tokens));
    CHECK(test::same_bytes(test::on_cpu(again), after));
    CHECK(test::same_bytes(test::on_cpu(losses), losses_before));
  });
}

TEST_CASE("the mean loss and the weight of targets on a GPU agree with the CPU's") {
  const Stream& gpu = test::gpu_stream();
  const Stream cpu = make_cpu_stream();
  constexpr double kScale = 0.7;
  for (const DType dtype : {DType::kFloat32, DType::kFloat64}) {
    for (const std::int64_t tokens : {0, 1, 3, 1023, 1025, 65537}) {
      CAPTURE(tokens);
      const Tensor targets = random_targets({.tokens = tokens, .vocabulary = 9});
      const Tensor losses =
          test::rounded(test::random_tensor({tokens}, DType::kFloat64, cpu, 1), dtype);
      Tensor mean = Tensor::empty({}, DType::kFloat64, cpu);
      Tensor weight = Tensor::empty({}, DType::kFloat64, cpu);
      kernels::mean_loss({.losses = test::rounded(losses, DType::kFloat64),
                          .targets = targets,
                          .scale = kScale,
                          .mean = mean,
                          .weight = weight},
                         cpu);
      const Tensor gpu_targets = test::to(targets, gpu);
      Tensor gpu_mean = test::poisoned({}, dtype, gpu);
      Tensor gpu_weight = test::poisoned({}, dtype, gpu);
      Tensor same_weight = test::poisoned({}, dtype, gpu);
      kernels::mean_loss({.losses = test::to(losses, gpu),
                          .targets = gpu_targets,
                          .scale = kScale,
                          .mean = gpu_mean,
                          .weight = gpu_weight},
                         gpu);
      kernels::target_weight(gpu_targets, kScale, same_weight, gpu);
      // The sum is one of float64 numbers of about 1, in another order.
      HEW_CHECK_CLOSE(gpu_mean, mean, test::epsilon(dtype), 64 * test::epsilon(DType::kFloat64));
      HEW_CHECK_CLOSE(gpu_weight, weight, test::epsilon(dtype));
      HEW_CHECK_CLOSE(same_weight, weight, test::epsilon(dtype));
    }
  }
}

TEST_CASE("on a GPU a target that does not exist makes its own loss and gradient NaN") {
  const Stream& gpu = test::gpu_stream();
  const Stream cpu = make_cpu_stream();
  constexpr std::int64_t kVocabulary = 11;
  const std::vector<std::int32_t> bad{0, kVocabulary, -1, -2, kVocabulary - 1};
  const Tensor targets = test::to(Tensor::from(bad, {5}, cpu), gpu);
  Tensor logits = test::to(test::random_tensor({5, kVocabulary}, DType::kFloat32, cpu, 1), gpu);
  Tensor losses = Tensor::zeros({5}, DType::kFloat32, gpu);
  Tensor lse = Tensor::zeros({5}, DType::kFloat32, gpu);
  const std::vector<bool> expected{false, true, false, true, false};
  auto check = [&] {
    const std::vector<float> values = losses.to_vector<float>();
    for (std::size_t m = 0; m < 5; ++m) CHECK(std::isnan(values[m]) == expected[m]);
  };
  kernels::token_losses({.logits = logits, .targets = targets, .losses = losses, .lse = lse}, gpu);
  check();
  kernels::fused_cross_entropy({.logits = logits,
                                .targets = targets,
                                .weight = scalar(1, DType::kFloat32, gpu),
                                .losses = losses},
                               gpu);
  check();
  const std::vector<float> gradient = logits.to_vector<float>();
  for (std::size_t i = 0; i < gradient.size(); ++i) {
    CHECK(std::isnan(gradient[i]) == expected[i / kVocabulary]);
  }
}

TEST_CASE("large logits, -inf and NaN go through the fused kernel as on the CPU") {
  const Stream& gpu = test::gpu_stream();
  const Stream cpu = make_cpu_stream();
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  constexpr std::int64_t kVocabulary = 1000;
  std::vector<float> values(3 * kVocabulary, 0.5F);
  values[3] = 1e4F;  // row 0: one far above the others, another one gone
  values[700] = -kInfinity;
  for (std::int64_t v = 0; v < kVocabulary - 1; ++v) {
    values[static_cast<std::size_t>(kVocabulary + v)] = -kInfinity;  // row 1: one alone is left
  }
  values[2 * kVocabulary + 5] = std::numeric_limits<float>::quiet_NaN();
  const Tensor host = Tensor::from(values, {3, kVocabulary}, cpu);
  const Tensor targets =
      test::to(Tensor::from(std::vector<std::int32_t>{3, kVocabulary - 1, 0}, {3}, cpu), gpu);
  for (const DType dtype : kTypes) {
    CAPTURE(name_of(dtype));
    Tensor logits = test::to(test::rounded(host, dtype), gpu);
    Tensor losses = test::poisoned({3}, accumulator_of(dtype), gpu);
    kernels::fused_cross_entropy({.logits = logits,
                                  .targets = targets,
                                  .weight = scalar(1, accumulator_of(dtype), gpu),
                                  .losses = losses},
                                 gpu);
    const auto loss = test::rounded(test::on_cpu(losses), DType::kFloat64).to_vector<double>();
    CHECK(loss[0] == 0);
    CHECK(loss[1] == 0);
    CHECK(std::isnan(loss[2]));
    const auto gradient = test::rounded(test::on_cpu(logits), DType::kFloat64).to_vector<double>();
    for (std::size_t i = 0; i < 2 * kVocabulary; ++i) REQUIRE(gradient[i] == 0);
  }
}

}  // namespace hew
