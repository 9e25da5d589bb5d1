#include <doctest/doctest.h>

#include "app/bench_tune.h"
#include "kernels/bsr_routes.h"
#include "tests/io/scratch.h"
#include "tests/support/device.h"
#include "train/bsr_routes_file.h"

namespace hew {

// A wrong result would throw.
TEST_CASE("bench tune times both ways of a GPU and writes a table that its products go by") {
  const test::Scratch scratch;
  for (const std::string dtype : {"bf16", "tf32"}) {
    const std::string path = scratch / dtype;
    std::vector<std::string> lines;
    bench_tune({.out_features = 512,
                .in_features = 768,
                .tokens = 515,
                .blocks = {16, 64},
                .densities = {0.25, 1},
                .dtype = dtype,
                .repeats = 2,
                .output = path},
               [&](const std::string& line) { lines.push_back(line); });
    CHECK(lines.size() == 2 + 2 * 2 * 3 + 1);
    const kernels::BsrRoutes routes = kernels::BsrRoutes::from_text(test::read_bytes(path), path);
    CHECK(routes.device() == train::bsr_routes_device(test::gpu_stream()));
    kernels::BsrProblem problem{.product = kernels::BsrProduct::kWeightGradient,
                                .dtype = dtype == "bf16" ? DType::kBFloat16 : DType::kFloat32,
                                .tf32 = true,
                                .tokens = 515,
                                .rows = 512,
                                .cols = 768,
                                .block = 64,
                                .nnzb = 48};
    CHECK(routes.ratio(problem).value_or(0) > 0);
    problem.block = 32;
    CHECK_FALSE(routes.ratio(problem).has_value());
  }
}

}  // namespace hew
