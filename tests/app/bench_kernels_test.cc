#include "app/bench_kernels.h"

#include <doctest/doctest.h>

#include "tests/app/bench_refusal.h"

namespace hew {
namespace {

std::string refusal_of(const BenchKernelsOptions& options) {
  return test::refusal_of(bench_kernels, options);
}

}  // namespace

TEST_CASE("bench kernels needs a GPU") {
  CHECK(refusal_of({.device = "cpu"}) == "--device cpu: this benchmark needs a GPU");
}

TEST_CASE("bench kernels names what --only knows") {
  CHECK(refusal_of({.only = {"norm", "nrom"}}) ==
        "--only nrom: expected some of norm, activation, swiglu, rotary, embedding, cross_entropy, "
        "adamw, global_norm, elementwise, blocks, dropout, products, attention");
}

TEST_CASE("bench kernels refuses numbers it cannot run with") {
  CHECK(refusal_of({.dtype = "int32"}) == "--dtype int32: expected bf16, tf32, fp32 or fp64");
  CHECK(refusal_of({.repeat = 0}) == "--repeat 0: expected 1 or more");
  CHECK(refusal_of({.scale = 0}) == "--scale 0: expected more than 0, at most 1");
}

}  // namespace hew
