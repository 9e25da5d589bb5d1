// The kernels that only a vision transformer needs: CUDA against CPU.

#include <doctest/doctest.h>

#include <array>

#include "kernels/drop_path.h"
#include "kernels/patches.h"
#include "kernels/soft_cross_entropy.h"
#include "kernels/tokens.h"
#include "tests/support/compare.h"
#include "tests/support/gpu_input.h"
#include "tests/support/sizes.h"

namespace hew {
namespace {

constexpr std::array kTypes{DType::kFloat32, DType::kFloat64, DType::kBFloat16};

Tensor wide(const Shape& shape) {
  return Tensor::empty(shape, DType::kFloat64, make_cpu_stream());
}

// Of a sum of `terms` numbers of size 1 in the accumulator, then rounded to the dtype.
double tolerance(DType dtype, std::int64_t terms) {
  return test::epsilon(dtype) +
         4 * static_cast<double>(terms) * test::epsilon(accumulator_of(dtype));
}

}  // namespace

TEST_CASE("patches on a GPU are the CPU's") {
  const Stream& gpu = test::gpu_stream();
  const Stream cpu = make_cpu_stream();
  struct Case {
    std::int64_t batch, channels, height, width, patch;
  };
  const std::int64_t many = test::cut(64, 1);
  for (const Case& c : {Case{0, 3, 32, 32, 4},
                        {1, 1, 1, 1, 1},
                        {2, 3, 6, 9, 3},
                        {3, 1, 28, 28, 4},
                        {2, 3, 28, 14, 14},
                        {2, 2, 8, 4, 2},
                        {many, 3, 224, 224, 16},
                        {1, 3, 32, 32, 8}}) {
    CAPTURE(c.patch);
    const Tensor images =
        test::random_tensor({c.batch, c.channels, c.height, c.width}, DType::kFloat32, cpu, 1);
    const Shape shape{c.batch * (c.height / c.patch) * (c.width / c.patch),
                      c.channels * c.patch * c.patch};
    Tensor wanted = Tensor::empty(shape, DType::kFloat32, cpu);
    kernels::patches({.images = images, .size = c.patch, .y = wanted}, cpu);
    for (const bool shifted : {false, true}) {
      const Tensor on_gpu = test::to(images, gpu);
      const Tensor from = shifted ? test::misaligned(on_gpu) : on_gpu;
      for (const DType dtype : kTypes) {
        Tensor y = test::poisoned(shape, dtype, gpu);
        kernels::patches({.images = from, .size = c.patch, .y = y}, gpu);
        CHECK(test::same_bytes(y, test::rounded(wanted, dtype)));
      }
    }
  }
}

TEST_CASE("tokens joined and pooled on a GPU agree with the CPU's in float64") {
  const Stream& gpu = test::gpu_stream();
  const Stream cpu = make_cpu_stream();
  struct Sizes {
    std::int64_t batch, tokens, width;
  };
  const std::int64_t many = test::cut(97, 2);
  for (const Sizes& s :
       {Sizes{0, 3, 8}, {1, 1, 1}, {3, 5, 7}, {2, 49, 64}, {5, 8, 1032}, {many, 196, 768}}) {
    for (const DType dtype : kTypes) {
      CAPTURE(name_of(dtype));
      CAPTURE(s.width);
      const bool shifted = s.tokens == 49;
      const auto x = test::gpu_input({s.batch, s.tokens, s.width}, dtype, 1, shifted);
      const auto token = test::gpu_input({s.width}, dtype, 2);
      for (const std::int64_t front : {0, 1}) {
        const Shape shape{s.batch, s.tokens + front, s.width};
        const auto positions = test::gpu_input({s.tokens + front, s.width}, dtype, 3);
        Tensor y = test::poisoned(shape, dtype, gpu);
        Tensor wanted = wide(shape);
        const ConstView none;
        kernels::join_tokens({.x = x.gpu,
                              .class_token = front > 0 ? token.gpu.view() : none,
                              .positions = positions.gpu,
                              .y = y},
                             gpu);
        kernels::join_tokens({.x = x.wide,
                              .class_token = front > 0 ? token.wide.view() : none,
                              .positions = positions.wide,
                              .y = wanted},
                             cpu);
        HEW_CHECK_CLOSE(y, wanted, test::epsilon(dtype), test::epsilon(dtype));
      }
      Tensor mean = test::poisoned({s.batch, s.width}, dtype, gpu);
      Tensor wanted_mean = wide({s.batch, s.width});
      kernels::mean_tokens(x.gpu, mean, gpu);
      kernels::mean_tokens(x.wide, wanted_mean, cpu);
      HEW_CHECK_CLOSE(mean, wanted_mean, tolerance(dtype, 1), tolerance(dtype, s.tokens));

      const auto dy = test::gpu_input({s.batch, s.width}, dtype, 4);
      Tensor dx = test::poisoned({s.batch, s.tokens, s.width}, dtype, gpu);
      Tensor wanted_dx = wide({s.batch, s.tokens, s.width});
      kernels::mean_tokens_backward(dy.gpu, dx, gpu);
      kernels::mean_tokens_backward(dy.wide, wanted_dx, cpu);
      HEW_CHECK_CLOSE(dx, wanted_dx, tolerance(dtype, 1), test::epsilon(dtype) * 1e-3);
    }
  }
}

TEST_CASE("stochastic depth on a GPU drops the CPU's samples") {
  const Stream& gpu = test::gpu_stream();
  const Stream cpu = make_cpu_stream();
  const std::int64_t many = test::cut(151296, 3000);
  for (const std::int64_t length :
       {std::int64_t{0}, std::int64_t{1}, std::int64_t{7}, std::int64_t{4104}, many}) {
    for (const DType dtype : kTypes) {
      CAPTURE(name_of(dtype));
      CAPTURE(length);
      const kernels::DropPathOptions options{
          .p = 0.3, .key = 11, .stream = (5ULL << 33U) + 1, .first_sample = 6};
      const auto x = test::gpu_input({37, length}, dtype, 1, /*shifted=*/length == 4104);
      Tensor wanted = wide({37, length});
      kernels::drop_path(options, x.wide, wanted, cpu);
      Tensor y = test::poisoned({37, length}, dtype, gpu);
      kernels::drop_path(options, x.gpu, y, gpu);
      HEW_CHECK_CLOSE(y, wanted, 2 * test::epsilon(dtype));
      Tensor in_place = x.gpu.clone();
      kernels::drop_path(options, in_place, in_place, gpu);
      CHECK(test::same_bytes(in_place, y));
    }
  }
}

TEST_CASE("soft cross entropy on a GPU agrees with the CPU's in float64") {
  const Stream& gpu = test::gpu_stream();
  const Stream cpu = make_cpu_stream();
  struct Sizes {
    std::int64_t rows, classes;
  };
  const std::int64_t many = test::cut(4099, 40);
  for (const Sizes& s : {Sizes{0, 5}, {1, 1}, {3, 10}, {17, 257}, {5, 1000}, {many, 1000}}) {
    for (const DType dtype : kTypes) {
      CAPTURE(name_of(dtype));
      CAPTURE(s.rows);
      CAPTURE(s.classes);
      const Shape shape{s.rows, s.classes};
      const Shape rows{s.rows};
      const DType sums = accumulator_of(dtype);
      const auto logits = test::gpu_input(shape, dtype, 1, /*shifted=*/s.rows == 17);
      const Tensor targets = test::random_tensor(shape, DType::kFloat32, cpu, 2);
      const Tensor targets_gpu = test::to(targets, gpu);
      Tensor losses = test::poisoned(rows, sums, gpu);
      Tensor lse = test::poisoned(rows, sums, gpu);
      Tensor mass = test::poisoned(rows, sums, gpu);
      Tensor mean = test::poisoned({}, sums, gpu);
      Tensor wanted_losses = wide(rows);
      Tensor wanted_lse = wide(rows);
      Tensor wanted_mass = wide(rows);
      Tensor wanted_mean = wide({});
      kernels::soft_cross_entropy({.logits = logits.gpu,
                                   .targets = targets_gpu,
                                   .smoothing = 0.11,
                                   .scale = 0.5,
                                   .losses = losses,
                                   .lse = lse,
                                   .mass = mass,
                                   .mean = mean},
                                  gpu);
      kernels::soft_cross_entropy({.logits = logits.wide,
                                   .targets = targets,
                                   .smoothing = 0.11,
                                   .scale = 0.5,
                                   .losses = wanted_losses,
                                   .lse = wanted_lse,
                                   .mass = wanted_mass,
                                   .mean = wanted_mean},
                                  cpu);
      const double relative = 16 * test::epsilon(sums);
      // Sums of numbers of size 10 and either sign.
      const double absolute = 16 * static_cast<double>(s.classes) * test::epsilon(sums);
      HEW_CHECK_CLOSE(lse, wanted_lse, relative, relative);
      HEW_CHECK_CLOSE(mass, wanted_mass, relative, absolute);
      HEW_CHECK_CLOSE(losses, wanted_losses, relative, absolute);
      HEW_CHECK_CLOSE(mean.reshape({1}), wanted_mean.reshape({1}), relative, absolute);

      const Tensor dmean = test::rounded(Tensor::from(std::vector<double>{0.75}, {}, cpu), sums);
      const Tensor wide_dmean = test::rounded(dmean, DType::kFloat64);
      Tensor dlogits = test::poisoned(shape, dtype, gpu);
      Tensor wanted_dlogits = wide(shape);
      kernels::soft_cross_entropy_backward({.logits = logits.gpu,
                                            .targets = targets_gpu,
                                            .lse = lse,
                                            .mass = mass,
                                            .dmean = test::to(dmean, gpu),
                                            .smoothing = 0.11,
                                            .scale = 0.5,
                                            .dlogits = dlogits},
                                           gpu);
      kernels::soft_cross_entropy_backward({.logits = logits.wide,
                                            .targets = targets,
                                            .lse = wanted_lse,
                                            .mass = wanted_mass,
                                            .dmean = wide_dmean,
                                            .smoothing = 0.11,
                                            .scale = 0.5,
                                            .dlogits = wanted_dlogits},
                                           cpu);
      const double each = 1.0 / static_cast<double>(std::max<std::int64_t>(s.rows, 1));
      HEW_CHECK_CLOSE(dlogits, wanted_dlogits, test::epsilon(dtype) + relative,
                      each * (relative + absolute));
    }
  }
}

}  // namespace hew
