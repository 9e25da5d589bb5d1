#include <doctest/doctest.h>

#include "core/beside.h"
#include "kernels/linear.h"
#include "tests/kernels/bsr_case.h"
#include "tests/support/sizes.h"

namespace hew::test {

TEST_CASE("the weight gradient is the same bits where some of its thread blocks start late") {
  const Stream& gpu = gpu_stream();
  const std::int64_t side = cut(4096, 256);
  const Tensor x = Tensor::zeros({side, side}, DType::kBFloat16, gpu);
  Tensor y = Tensor::empty({side, side}, DType::kBFloat16, gpu);
  for (const Type& type : {kBFloat16, kTf32}) {
    for (const std::int64_t b : {16, 32, 64, 128}) {
      CAPTURE(type.name());
      CAPTURE(b);
      const Case c(random_pattern(cut(2048, 512), cut(2048, 512), b, 0.2, 8), cut(4096, 521), type);
      const Tensor alone = on_cpu(weight_gradient(c, /*aligned=*/true));
      Tensor dvalues = Tensor::empty(alone.shape(), alone.dtype(), gpu);
      Beside beside(gpu);
      // Products of another queue hold multiprocessors when the gradient comes, and let go of them
      // one after the other.
      const Stream products = beside.begin();
      kernels::linear_forward({.x = x, .w = x, .y = y}, products);
      for (int round = 0; round < 20; ++round) {
        dvalues.fill_zero();
        beside.begin();
        for (int i = 0; i < 1 + round % 3; ++i)
          kernels::linear_forward({.x = x, .w = x, .y = y}, products);
        kernels::bsr_weight_gradient(
            {.dy = c.dy.gpu, .x = c.x.gpu, .index = c.uploaded.index(), .dvalues = dvalues}, gpu);
        beside.join();
        REQUIRE(same_bytes(on_cpu(dvalues), alone));
      }
    }
  }
}

}  // namespace hew::test
