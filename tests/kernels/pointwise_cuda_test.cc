#include <doctest/doctest.h>

#include <array>

#include "kernels/dropout.h"
#include "kernels/swiglu.h"
#include "tests/support/compare.h"
#include "tests/support/gpu_input.h"
#include "tests/support/sizes.h"

namespace hew {
namespace {

constexpr std::array kTypes{DType::kFloat32, DType::kFloat64, DType::kBFloat16};
constexpr std::array<std::int64_t, 7> kCounts{0, 1, 7, 8, 1009, 4096, 3000008};

Tensor wide(std::int64_t count) {
  return Tensor::empty({count}, DType::kFloat64, make_cpu_stream());
}

}  // namespace

TEST_CASE("swiglu on a GPU agrees with the CPU's in float64") {
  const Stream& gpu = test::gpu_stream();
  const Stream cpu = make_cpu_stream();
  for (const DType dtype : kTypes) {
    const double absolute = 64 * test::epsilon(accumulator_of(dtype));
    const double relative = test::epsilon(dtype) + 8 * test::epsilon(accumulator_of(dtype));
    for (const std::int64_t whole : kCounts) {
      const std::int64_t count = test::cut(whole, 30008);
      CAPTURE(name_of(dtype));
      CAPTURE(count);
      const auto gate = test::gpu_input({count}, dtype, 1, /*shifted=*/count == 4096);
      const auto up = test::gpu_input({count}, dtype, 2);
      const auto dy = test::gpu_input({count}, dtype, 3);
      Tensor y = test::poisoned({count}, dtype, gpu);
      Tensor wanted = wide(count);
      kernels::swiglu_forward(gate.gpu, up.gpu, y, gpu);
      kernels::swiglu_forward(gate.wide, up.wide, wanted, cpu);
      HEW_CHECK_CLOSE(y, wanted, relative, absolute);

      Tensor dgate = test::poisoned({count}, dtype, gpu);
      Tensor dup = dy.gpu.clone();  // in place
      Tensor wanted_dgate = wide(count);
      Tensor wanted_dup = wide(count);
      kernels::swiglu_backward(
          {.gate = gate.gpu, .up = up.gpu, .dy = dup, .dgate = dgate, .dup = dup}, gpu);
      kernels::swiglu_backward({.gate = gate.wide,
                                .up = up.wide,
                                .dy = dy.wide,
                                .dgate = wanted_dgate,
                                .dup = wanted_dup},
                               cpu);
      HEW_CHECK_CLOSE(dgate, wanted_dgate, relative, absolute);
      HEW_CHECK_CLOSE(dup, wanted_dup, relative, absolute);
    }
  }
}

TEST_CASE("dropout on a GPU draws the CPU's bits") {
  const Stream& gpu = test::gpu_stream();
  const Stream cpu = make_cpu_stream();
  for (const std::uint64_t first : {0ULL, 4ULL, 7ULL, (1ULL << 40U) + 2}) {
    const kernels::DropoutOptions options{
        .p = 0.3, .key = 0x123456789abcdefULL, .stream = (5ULL << 33U) + 1, .first_element = first};
    for (const std::int64_t whole : kCounts) {
      const std::int64_t count = test::cut(whole, 30008);
      CAPTURE(first);
      CAPTURE(count);
      for (const DType dtype : {DType::kFloat32, DType::kFloat64}) {
        const Tensor x = test::random_tensor({count}, dtype, cpu, 1);
        Tensor wanted = Tensor::empty({count}, dtype, cpu);
        kernels::dropout(options, x, wanted, cpu);
        Tensor y = test::to(x, gpu);
        kernels::dropout(options, y, y, gpu);
        CHECK(test::same_bytes(y, wanted));
      }
      const auto x = test::gpu_input({count}, DType::kBFloat16, 2);
      const Tensor narrow = test::rounded(x.wide, DType::kFloat32);
      Tensor wanted = Tensor::empty({count}, DType::kFloat32, cpu);
      kernels::dropout(options, narrow, wanted, cpu);
      Tensor y = test::poisoned({count}, DType::kBFloat16, gpu);
      kernels::dropout(options, x.gpu, y, gpu);
      CHECK(test::same_bytes(y, test::rounded(wanted, DType::kBFloat16)));
    }
  }
}

}  // namespace hew
