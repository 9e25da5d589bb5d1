#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

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
  kernels::SgdTensors tensors(bool momentum, bool copies, double weight_decay) {
    return {.g = std::as_const(g),
            .w = w,
            .buffer = momentum ? buffer.view() : View{},
            .working = copies ? working.view() : View{},
            .weight_decay = weight_decay,
            .lr_factor = momentum ? 1.5 : 1};
  }
};

// The same parameters on both devices.
struct Pair {
  std::vector<Parameter> here;
  std::vector<Parameter> there;

  void add(std::int64_t n, std::int64_t shift, DType dtype) {
    here.emplace_back(n, shift, dtype, make_cpu_stream());
    there.emplace_back(n, shift, dtype, test::gpu_stream());
  }
  // One call for all, on each device. Every second parameter decays, two in three have copies.
  void step(kernels::SgdStep settings, double scale) {
    const bool momentum = settings.momentum > 0;
    const Stream cpu = make_cpu_stream();
    const Tensor scale_here = Tensor::from(std::vector<double>{scale}, {}, cpu);
    const Tensor scale_there = test::to(scale_here, test::gpu_stream());
    std::vector<kernels::SgdTensors> on_cpu;
    std::vector<kernels::SgdTensors> on_gpu;
    for (std::size_t i = 0; i < here.size(); ++i) {
      const double decay = i % 2 == 0 ? 0.1 : 0;
      on_cpu.push_back(here[i].tensors(momentum, has_copy(i), decay));
      on_gpu.push_back(there[i].tensors(momentum, has_copy(i), decay));
    }
    settings.grad_scale = scale_here;
    kernels::sgd(settings, on_cpu, cpu);
    settings.grad_scale = scale_there;
    kernels::sgd(settings, on_gpu, test::gpu_stream());
  }
  static bool has_copy(std::size_t i) { return i % 3 != 1; }
};

}  // namespace

TEST_CASE_TEMPLATE("sgd on the GPU is that of the CPU, all parameters in one call", T, float,
                   double) {
  const double tolerance = 20 * static_cast<double>(std::numeric_limits<T>::epsilon());
  for (const bool momentum : {false, true}) {
    for (const bool nesterov : {false, true}) {
      Pair pair;
      // Chunks of 8192, on 16-byte addresses and off them.
      for (const std::int64_t n : {0, 1, 2, 5, 1021, 8192, 3000017, 0, 8193}) {
        for (const std::int64_t shift : {0, 1}) pair.add(test::cut(n, 30017), shift, kDTypeOf<T>);
      }
      const kernels::SgdStep settings{
          .lr = 0.05, .momentum = momentum ? 0.9 : 0, .nesterov = nesterov && momentum};
      for (int step = 0; step < 2; ++step) pair.step(settings, 0.3);
      for (std::size_t i = 0; i < pair.here.size(); ++i) {
        CAPTURE(i);
        Parameter& here = pair.here[i];
        Parameter& there = pair.there[i];
        HEW_CHECK_CLOSE(test::on_cpu(there.w), here.w, tolerance, tolerance);
        HEW_CHECK_CLOSE(test::on_cpu(there.buffer), here.buffer, tolerance, tolerance);
        if (Pair::has_copy(i)) {
          CHECK(test::same_bytes(test::on_cpu(there.working),
                                 test::rounded(test::on_cpu(there.w), DType::kBFloat16)));
        }
      }
    }
  }
}

TEST_CASE("more parameters than a block has threads") {
  Pair pair;
  for (std::int64_t i = 0; i < 700; ++i) {
    pair.add(i % 13 == 0 ? 0 : i % 101 + 1, i % 2, DType::kFloat32);
  }
  pair.step({.lr = 0.05, .momentum = 0.9}, 1);
  for (std::size_t i = 0; i < pair.here.size(); ++i) {
    HEW_CHECK_CLOSE(test::on_cpu(pair.there[i].w), pair.here[i].w, 1e-5, 1e-5);
  }
}

TEST_CASE("without a scale it is 1; one that is not finite leaves everything as it was") {
  const Stream cpu = make_cpu_stream();
  Parameter here(1021, 0, DType::kFloat32, cpu);
  Parameter there(1021, 0, DType::kFloat32, test::gpu_stream());
  const kernels::SgdTensors plain_here = here.tensors(/*momentum=*/false, /*copies=*/false, 0);
  const kernels::SgdTensors plain = there.tensors(/*momentum=*/false, /*copies=*/false, 0);
  kernels::sgd({.lr = 0.1}, {&plain_here, 1}, cpu);
  kernels::sgd({.lr = 0.1}, {&plain, 1}, test::gpu_stream());
  HEW_CHECK_CLOSE(test::on_cpu(there.w), here.w, 1e-6, 1e-6);
  const Tensor w = test::on_cpu(there.w).clone();
  const Tensor buffer = test::on_cpu(there.buffer).clone();
  const kernels::SgdTensors decaying = there.tensors(/*momentum=*/true, /*copies=*/false, 0.1);
  for (const double bad : {std::nan(""), HUGE_VAL}) {
    const Tensor scale = Tensor::from(std::vector<double>{bad}, {}, test::gpu_stream());
    kernels::sgd({.momentum = 0.9, .grad_scale = scale}, {&decaying, 1}, test::gpu_stream());
    CHECK(test::same_bytes(test::on_cpu(there.w), w));
    CHECK(test::same_bytes(test::on_cpu(there.buffer), buffer));
  }
}

}  // namespace hew
