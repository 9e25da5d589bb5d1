#include "kernels/bsr_routes.h"

#include <doctest/doctest.h>

#include <cmath>

#include "core/error.h"

namespace hew {
namespace {

using kernels::BsrFolding;
using kernels::BsrProblem;
using kernels::BsrProduct;
using kernels::BsrRoutes;
using kernels::BsrSettings;

constexpr const char* kDevice = "Some GPU, sm_90";

// 1024 × 512 in blocks of 32: 512 blocks.
BsrProblem problem(std::int64_t tokens, std::int64_t nnzb) {
  return {.tokens = tokens, .rows = 1024, .cols = 512, .block = 32, .nnzb = nnzb};
}

BsrRoutes table() {
  BsrRoutes routes(kDevice);
  routes.add(problem(4096, 128), {.own = 1e-4, .folded = 4e-4});
  routes.add(problem(4096, 256), {.own = 4e-4, .folded = 4e-4});
  routes.add(problem(4096, 512), {.own = 8e-4, .folded = 4e-4});
  routes.add(problem(1000, 256), {.own = 3.3e-5, .folded = 1.1e-5});
  BsrProblem other = problem(4096, 256);
  other.dtype = DType::kFloat32;
  other.tf32 = true;
  other.product = BsrProduct::kWeightGradient;
  routes.add(other, {.own = 0.1, .folded = 0.7});
  return routes;
}

std::string refusal_of(const std::string& text) {
  try {
    BsrRoutes::from_text(text, "t.txt");
  } catch (const DataError& error) {
    return error.what();
  }
  return "";
}

double ratio(const BsrRoutes& routes, const BsrProblem& p) {
  const std::optional<double> found = routes.ratio(p);
  REQUIRE(found.has_value());
  return *found;
}

}  // namespace

TEST_CASE("measured times of routes come back from their text") {
  const std::string text = table().to_text();
  const BsrRoutes read = BsrRoutes::from_text(text, "t.txt");
  CHECK(read.device() == kDevice);
  CHECK(read.to_text() == text);
  CHECK(text.starts_with("hew-bsr-routes 1 Some GPU, sm_90\n"));
  CHECK(text.find("\nforward bfloat16 1024 512 32 4096 0.25 0.0001 0.0004\n") != std::string::npos);
  CHECK(text.find("\nweight_gradient tf32 1024 512 32 4096 0.5 0.1 0.7\n") != std::string::npos);
  CHECK(BsrRoutes::from_text(BsrRoutes(kDevice).to_text(), "t.txt").empty());
}

TEST_CASE("damaged times of routes are refused by line") {
  const std::string good = "hew-bsr-routes 1 X\nforward bfloat16 64 64 32 100 0.5 1e-3 2e-3\n";
  CHECK(refusal_of(good) == "");
  for (const std::string head : {"", "hew-bsr-routes 1\n", "hew-bsr-routes 2 X\n", "forward\n"}) {
    CHECK(refusal_of(head).starts_with("t.txt:1: got '"));
  }
  for (const std::string line :
       {"", "forward bfloat16 64 64 32 100 0.5 1e-3",
        "forward bfloat16 64 64 32 100 0.5 1e-3 2e-3 5",
        "backward bfloat16 64 64 32 100 0.5 1e-3 2e-3", "forward int32 64 64 32 100 0.5 1e-3 2e-3",
        "forward bfloat16 64 x 32 100 0.5 1e-3 2e-3", "forward bfloat16 64 64 0 100 0.5 1e-3 2e-3",
        "forward bfloat16 64 64 32 100 1.5 1e-3 2e-3",
        "forward bfloat16 64 64 32 100 nan 1e-3 2e-3", "forward bfloat16 64 64 32 100 0.5 0 2e-3",
        "forward bfloat16 64 64 32 100 0.5 1e-3 inf"}) {
    CAPTURE(line);
    CHECK(refusal_of(good + line + "\n").starts_with("t.txt:3: got '" + line + "'"));
  }
}

TEST_CASE("ratios are interpolated between densities, in their logarithm, and stay beyond them") {
  const BsrRoutes routes = table();
  CHECK(ratio(routes, problem(4096, 128)) == doctest::Approx(0.25));
  CHECK(ratio(routes, problem(4096, 192)) == doctest::Approx(0.5));
  CHECK(ratio(routes, problem(4096, 256)) == doctest::Approx(1));
  CHECK(ratio(routes, problem(4096, 320)) == doctest::Approx(std::pow(2, 0.25)));
  CHECK(ratio(routes, problem(4096, 512)) == doctest::Approx(2));
  CHECK(ratio(routes, problem(4096, 1)) == doctest::Approx(0.25));
  CHECK(ratio(routes, problem(4096, 0)) == doctest::Approx(0.25));
}

TEST_CASE("ratios are those of the nearest number of tokens within a factor of 2") {
  const BsrRoutes routes = table();
  CHECK(ratio(routes, problem(500, 256)) == doctest::Approx(3));
  CHECK(ratio(routes, problem(2000, 256)) == doctest::Approx(3));
  CHECK(ratio(routes, problem(2048, 256)) == doctest::Approx(1));
  CHECK(ratio(routes, problem(8192, 256)) == doctest::Approx(1));
  for (const std::int64_t tokens : {0, 1, 499, 2001, 2047, 8193}) {
    CAPTURE(tokens);
    CHECK_FALSE(routes.ratio(problem(tokens, 256)).has_value());
  }
}

TEST_CASE("ratios are of the same product, dtype, matrix and block alone") {
  const BsrRoutes routes = table();
  BsrProblem p = problem(4096, 256);
  p.tf32 = true;  // nothing to a product in bf16
  CHECK(routes.ratio(p).has_value());
  p.product = BsrProduct::kWeightGradient;
  p.dtype = DType::kFloat32;
  CHECK(ratio(routes, p) == doctest::Approx(1.0 / 7));
  p.tf32 = false;
  CHECK_FALSE(routes.ratio(p).has_value());
  p = problem(4096, 256);
  p.product = BsrProduct::kInputGradient;
  CHECK_FALSE(routes.ratio(p).has_value());
  p = problem(4096, 256);
  p.rows = 1000;
  CHECK_FALSE(routes.ratio(p).has_value());
  p = problem(4096, 256);
  std::swap(p.rows, p.cols);
  CHECK_FALSE(routes.ratio(p).has_value());
  p = problem(4096, 256);
  p.block = 64;
  CHECK_FALSE(routes.ratio(p).has_value());
}

TEST_CASE("a product takes its measured way, on the device that was measured") {
  const Stream cpu = make_cpu_stream();
  // The estimate says the opposite of what was measured.
  BsrProblem p{.tokens = 8192, .rows = 14336, .cols = 4096, .block = 64, .hopper = true};
  p.nnzb = p.rows / p.block * p.cols / p.block / 20;
  REQUIRE(kernels::cheapest_route(p) == kernels::BsrRoute::kHopper);
  BsrRoutes routes(kDevice);
  routes.add(p, {.own = 2, .folded = 1});
  BsrSettings settings(cpu);
  CHECK_FALSE(settings.folds(p));
  CHECK(settings.use(routes, kDevice));
  CHECK(settings.folds(p));
  CHECK_FALSE(settings.use(routes, "Another GPU, sm_90"));
  CHECK_FALSE(settings.folds(p));
  CHECK(settings.routes->to_text() == routes.to_text());  // kept all the same
  settings.folding = BsrFolding::kFolded;
  CHECK(settings.folds(p));
  settings.folding = BsrFolding::kOwn;
  CHECK(settings.use(routes, kDevice));
  CHECK_FALSE(settings.folds(p));
}

}  // namespace hew
