#include "core/tensor.h"

#include <doctest/doctest.h>

#include "core/error.h"

namespace hew {

TEST_CASE("tensors share memory by copy, reshape and rows, and not by clone") {
  const Stream cpu = make_cpu_stream();
  Tensor t = Tensor::from(std::vector<float>{0, 1, 2, 3, 4, 5}, {3, 2}, cpu);
  Tensor last = t.rows(2, 1);
  last.data<float>()[0] = 40;
  CHECK(t.to_vector<float>() == std::vector<float>{0, 1, 2, 3, 40, 5});
  CHECK(t.reshape({2, 3}).shape() == Shape{2, 3});
  Tensor copy = t.clone();
  copy.fill_zero();
  CHECK(t.data<float>()[1] == 1);
  CHECK_THROWS_AS(t.reshape({4}), ShapeError);
  CHECK_THROWS_AS(t.rows(2, 2), ShapeError);
  CHECK_THROWS_AS(t.to_vector<double>(), DtypeError);
}

TEST_CASE("a step that repeats allocates nothing from the system") {
  const Stream cpu = make_cpu_stream();
  auto step = [&] {
    std::vector<Tensor> held;
    for (const std::int64_t n : {1, 7, 100, 1000, 12345}) {
      held.push_back(Tensor::empty({n}, DType::kFloat64, cpu));
    }
  };
  step();
  const AllocatorStats cold = cpu.allocator->stats();
  for (int i = 0; i < 3; ++i) step();
  const AllocatorStats warm = cpu.allocator->stats();
  CHECK(warm.system_allocations == cold.system_allocations);
  CHECK(warm.in_use == 0);
  CHECK(warm.peak == cold.peak);
}

TEST_CASE("bfloat16 rounds to nearest even and keeps NaN") {
  CHECK(static_cast<float>(BFloat16(1.0F)) == 1.0F);
  CHECK(BFloat16(1.00390625F).bits == 0x3f80);  // halfway, to even
  CHECK(BFloat16(1.01171875F).bits == 0x3f82);  // halfway, to even
  CHECK(std::isnan(static_cast<float>(BFloat16(NAN))));
}

TEST_CASE("devices and dtypes parse or say what is wrong") {
  CHECK(parse_device("cuda:2") == Device{DeviceType::kCuda, 2});
  CHECK_THROWS_AS(parse_device("gpu"), ConfigError);
  CHECK_THROWS_AS(parse_device("cuda:x"), ConfigError);
  CHECK(parse_dtype("bf16") == DType::kBFloat16);
  CHECK_THROWS_AS(parse_dtype("fp8"), ConfigError);
}

}  // namespace hew
