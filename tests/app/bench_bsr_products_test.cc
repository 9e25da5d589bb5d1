#include "app/bench_bsr_products.h"

#include <doctest/doctest.h>

#include <limits>

#include "core/stream.h"

namespace hew {
namespace {

constexpr double kRight = 1e-6;
constexpr BenchTurns kOnce{.warm_ups = 0, .repeats = 1};

sparsity::BsrPattern pattern_of(const sparsity::MaskBytes& mask) {
  return {{.rows = 20, .cols = 30, .block = 8}, mask, make_cpu_stream()};
}

}  // namespace

TEST_CASE("work counts live elements, and the columns and rows that they need") {
  // 3 × 4 blocks, the last row 4 high, the last column 6 wide.
  const auto pattern = pattern_of({1, 0, 0, 1,  //
                                   0, 0, 0, 0,  //
                                   0, 0, 0, 1});
  const double live = 64 + 8 * 6 + 4 * 6;
  const auto work = [&](BsrProduct product, DType dtype) {
    return work_of(product, 100, pattern, dtype);
  };
  CHECK(work(BsrProduct::kForward, DType::kBFloat16).flops == 200 * live);
  CHECK(work(BsrProduct::kForward, DType::kBFloat16).bytes == 2 * (100 * (8 + 6 + 20) + live));
  CHECK(work(BsrProduct::kInputGradient, DType::kBFloat16).bytes ==
        2 * (100 * (8 + 4 + 30) + live));
  CHECK(work(BsrProduct::kWeightGradient, DType::kBFloat16).bytes ==
        2 * 100 * (8 + 6 + 8 + 4) + 4 * live);
  CHECK(work(BsrProduct::kWeightGradient, DType::kFloat64).bytes ==
        8 * (100 * (8 + 6 + 8 + 4) + live));
}

TEST_CASE("a product is held against the dense one, and one wrong block or element shows") {
  const Stream cpu = make_cpu_stream();
  RandomTensors random(cpu);
  const BsrShape shape{.m = 37, .n = 44, .k = 30};
  for (const DType dtype : {DType::kFloat32, DType::kFloat64}) {
    const BsrOperands operands(shape, dtype, random);
    const BsrWeight weight(BsrPatternKind::kRandom, {.rows = shape.n, .cols = shape.k, .block = 8},
                           0.5, random, operands);
    CHECK_FALSE(weight.uniform);
    for (const auto& [product, name] : EnumNames<BsrProduct>::kTable) {
      CAPTURE(name);
      const BsrTimes times = time_product(product, operands, weight, kOnce);
      CHECK(times.error < kRight);
      CHECK(times.sparse > 0);
      CHECK(times.dense > 0);
      CHECK(times.uniform == 0);
    }
    BsrWeight wrong = weight;
    wrong.values = weight.values.clone();
    wrong.values.rows(0, 1).fill_zero();
    CHECK(time_product(BsrProduct::kForward, operands, wrong, kOnce).error > 1e-2);
    CHECK(time_product(BsrProduct::kInputGradient, operands, wrong, kOnce).error > 1e-2);
  }
  BsrOperands operands(shape, DType::kFloat32, random);
  operands.x.data<float>()[5] = std::numeric_limits<float>::quiet_NaN();
  const BsrWeight weight(BsrPatternKind::kRandom, {.rows = shape.n, .cols = shape.k, .block = 8},
                         0.5, random, operands);
  CHECK_FALSE(time_product(BsrProduct::kForward, operands, weight, kOnce).error <= 1);
}

TEST_CASE("a layer is its three products, and one wrong block shows") {
  const Stream cpu = make_cpu_stream();
  RandomTensors random(cpu);
  const BsrOperands operands({.m = 37, .n = 44, .k = 30}, DType::kFloat32, random);
  const BsrWeight weight(BsrPatternKind::kRandom, {.rows = 44, .cols = 30, .block = 8}, 0.5, random,
                         operands);
  const BsrLayerTimes times = time_layer(operands, weight, kOnce);
  CHECK(times.error < kRight);
  CHECK(times.sparse > 0);
  CHECK(times.dense > 0);
  BsrWeight wrong = weight;
  wrong.values = weight.values.clone();
  wrong.values.rows(0, 1).fill_zero();
  CHECK(time_layer(operands, wrong, kOnce).error > 1e-2);
}

TEST_CASE("an uneven pattern comes with a uniform one of as many blocks") {
  const Stream cpu = make_cpu_stream();
  RandomTensors random(cpu);
  const BsrOperands operands({.m = 9, .n = 128, .k = 128}, DType::kFloat32, random);
  const BsrWeight weight(BsrPatternKind::kLongRow, {.rows = 128, .cols = 128, .block = 8}, 0.9,
                         random, operands);
  REQUIRE(weight.uniform);
  CHECK(weight.uniform->nnzb() == weight.pattern.nnzb());
  CHECK(time_product(BsrProduct::kForward, operands, weight, kOnce).uniform > 0);
}

}  // namespace hew
