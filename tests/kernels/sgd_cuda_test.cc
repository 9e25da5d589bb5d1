#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "kernels/sgd.h"
#include "tests/support/compare.h"
#include "tests/support/device.h"
#include "tests/support/random.h"
#include "tests/support/sizes.h"

namespace hew {
namespace {

struct Parameter {
  Tensor g, w, buffer, working;

  // Elements [shift, shift + n), so that a shift of 1 is off a 16-byte address.
  Parameter(std::int64_t n, std::int64_t shift, DType dtype, const Stream& stream) {
    const Stream cpu = make_cpu_stream();
    std::uint64_t seed = 1;
    for (Tensor* t : {&g, &w, &buffer}) {
      *t = test::to(test::random_tensor({n + shift}, dtype, cpu, ++seed), stream).rows(shift, n);
    }
    working = test::poisoned({n + shift}, DType::kBFloat16, stream).rows(shift, n);
  }
  kernels::SgdTensors tensors(bool momentum, bool copies) {
    return {.g = std::as_const(g),
            .w = w,
            .buffer = momentum ? buffer.view() : View{},
            .working = copies ? working.view() : View{}};
  }
};

}  // namespace

TEST_CASE_TEMPLATE("sgd on the GPU is that of the CPU", T, float, double) {
  const double tolerance = 20 * static_cast<double>(std::numeric_limits<T>::epsilon());
  const Stream cpu = make_cpu_stream();
  const Tensor scale = Tensor::from(std::vector<double>{0.3}, {}, cpu);
  const Tensor scale_there = test::to(scale, test::gpu_stream());
  for (const std::int64_t whole : {0, 1, 2, 5, 1021, 4096, 3000017}) {
    const std::int64_t n = test::cut(whole, 30017);
    for (const int flags : {0, 1, 2, 3, 4, 5, 6, 7}) {
      const std::int64_t shift = flags % 2;
      const bool momentum = flags / 2 % 2 == 1;
      const bool nesterov = flags / 4 == 1 && momentum;
      CAPTURE(n);
      CAPTURE(flags);
      Parameter here(n, shift, kDTypeOf<T>, cpu);
      Parameter there(n, shift, kDTypeOf<T>, test::gpu_stream());
      kernels::SgdStep settings{
          .lr = 0.05, .momentum = momentum ? 0.9 : 0, .nesterov = nesterov, .weight_decay = 0.1};
      for (int step = 0; step < 2; ++step) {
        settings.grad_scale = scale;
        kernels::sgd(settings, here.tensors(momentum, /*copies=*/true), cpu);
        settings.grad_scale = scale_there;
        kernels::sgd(settings, there.tensors(momentum, /*copies=*/true), test::gpu_stream());
      }
      HEW_CHECK_CLOSE(test::on_cpu(there.w), here.w, tolerance, tolerance);
      HEW_CHECK_CLOSE(test::on_cpu(there.buffer), here.buffer, tolerance, tolerance);
      CHECK(test::same_bytes(test::on_cpu(there.working),
                             test::rounded(test::on_cpu(there.w), DType::kBFloat16)));
    }
  }
}

TEST_CASE("without a scale it is 1; one that is not finite leaves everything as it was") {
  const Stream cpu = make_cpu_stream();
  Parameter here(1021, 0, DType::kFloat32, cpu);
  Parameter there(1021, 0, DType::kFloat32, test::gpu_stream());
  kernels::sgd({.lr = 0.1}, here.tensors(/*momentum=*/false, /*copies=*/false), cpu);
  kernels::sgd({.lr = 0.1}, there.tensors(/*momentum=*/false, /*copies=*/false),
               test::gpu_stream());
  HEW_CHECK_CLOSE(test::on_cpu(there.w), here.w, 1e-6, 1e-6);
  const Tensor w = test::on_cpu(there.w).clone();
  const Tensor buffer = test::on_cpu(there.buffer).clone();
  for (const double bad : {std::nan(""), HUGE_VAL}) {
    const Tensor scale = Tensor::from(std::vector<double>{bad}, {}, test::gpu_stream());
    kernels::sgd({.momentum = 0.9, .weight_decay = 0.1, .grad_scale = scale},
                 there.tensors(/*momentum=*/true, /*copies=*/false), test::gpu_stream());
    CHECK(test::same_bytes(test::on_cpu(there.w), w));
    CHECK(test::same_bytes(test::on_cpu(there.buffer), buffer));
  }
}

}  // namespace hew
