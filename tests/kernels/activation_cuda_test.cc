#include <doctest/doctest.h>

#include <array>

#include "kernels/activation.h"
#include "tests/support/compare.h"
#include "tests/support/gpu_input.h"
#include "tests/support/sizes.h"

namespace hew {
namespace {

using kernels::Activation;

constexpr std::array kTypes{DType::kFloat32, DType::kFloat64, DType::kBFloat16};
constexpr std::array kKinds{Activation::kNone, Activation::kRelu, Activation::kGelu,
                            Activation::kGeluTanh, Activation::kSilu};

// Values of a few units, and of where exponentials overflow or vanish.
test::GpuInput preactivations(const Shape& shape, DType dtype, bool misaligned = false) {
  Tensor x = test::random_tensor(shape, DType::kFloat64, make_cpu_stream(), 1);
  for (std::int64_t i = 0; i < x.numel(); ++i) x.data<double>()[i] *= 2;
  for (std::int64_t i = 5; i < x.numel(); i += 11) x.data<double>()[i] *= 50;
  const auto aligned = test::gpu_input(x, dtype);
  if (!misaligned)
    return aligned;
  auto shifted = test::gpu_input(shape, dtype, 2, /*shifted=*/true);
  shifted.gpu.copy_from(aligned.gpu);
  return {.gpu = shifted.gpu, .wide = aligned.wide};
}

}  // namespace

TEST_CASE("activations on a GPU agree with the CPU's in float64") {
  const Stream& gpu = test::gpu_stream();
  const Stream cpu = make_cpu_stream();
  for (const DType dtype : kTypes) {
    // A few units in the last place of a term, whose factors are at most about 1 where they cancel.
    const double relative = 8 * test::epsilon(accumulator_of(dtype)) + test::epsilon(dtype);
    const double absolute = 32 * test::epsilon(accumulator_of(dtype));
    // What the reference itself loses in 1 − tanh², times a few units.
    constexpr double kReference = 2e-13;
    for (const Activation kind : kKinds) {
      for (const Shape& whole : {Shape{0, 8}, Shape{1, 1}, Shape{7, 13}, Shape{31, 96},
                                 Shape{64, 264}, Shape{4099, 40}, Shape{613, 3072}}) {
        const Shape shape{test::cut(whole[0], 16384 / whole[1]), whole[1]};
        for (const bool misaligned : {false, true}) {
          CAPTURE(name_of(dtype));
          CAPTURE(name_of(kind));
          CAPTURE(to_string(shape));
          CAPTURE(misaligned);
          if (shape.numel() == 0 && misaligned)
            continue;
          const auto x = preactivations(shape, dtype, misaligned);
          const auto dy = test::gpu_input(shape, dtype, 3);
          Tensor wanted = Tensor::empty(shape, DType::kFloat64, cpu);
          Tensor y = test::poisoned(shape, dtype, gpu);
          kernels::activation_forward(kind, x.gpu, y, gpu);
          kernels::activation_forward(kind, x.wide, wanted, cpu);
          HEW_CHECK_CLOSE(y, wanted, relative, absolute);

          Tensor dx = test::poisoned(shape, dtype, gpu);
          kernels::activation_backward(kind, x.gpu, dy.gpu, dx, gpu);
          Tensor wanted_bias = Tensor::empty({shape[1]}, DType::kFloat64, cpu);
          kernels::activation_backward(
              {.activation = kind, .x = x.wide, .dy = dy.wide, .dx = wanted, .dbias = wanted_bias},
              cpu);
          HEW_CHECK_CLOSE(dx, wanted, relative, 4 * absolute + kReference);

          Tensor over = dy.gpu.clone();
          Tensor dbias = test::poisoned({shape[1]}, accumulator_of(dtype), gpu);
          kernels::activation_backward(
              {.activation = kind, .x = x.gpu, .dy = over, .dx = over, .dbias = dbias}, gpu);
          HEW_CHECK_CLOSE(over, wanted, relative, 4 * absolute + kReference);
          // M values of about 1 each.
          const double of_rows =
              test::epsilon(accumulator_of(dtype)) * static_cast<double>(shape[0] + 32) * 4;
          HEW_CHECK_CLOSE(dbias, wanted_bias, of_rows, of_rows + kReference);
        }
      }
    }
  }
}

}  // namespace hew
