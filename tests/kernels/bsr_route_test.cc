#include "kernels/bsr_route.h"

#include <doctest/doctest.h>

namespace hew {
namespace {

using kernels::BsrProblem;
using kernels::BsrProduct;
using kernels::BsrRoute;
using kernels::cheapest_route;

constexpr std::int64_t kTokens = 8192;

// Llama's up projection.
BsrProblem problem(BsrProduct product, std::int64_t block, double density, bool hopper) {
  BsrProblem p{.product = product,
               .tokens = kTokens,
               .rows = 14336,
               .cols = 4096,
               .block = block,
               .hopper = hopper};
  p.nnzb =
      static_cast<std::int64_t>(density * static_cast<double>(p.rows / block * p.cols / block));
  return p;
}

constexpr BsrProduct kProducts[] = {BsrProduct::kForward, BsrProduct::kInputGradient,
                                    BsrProduct::kWeightGradient};

}  // namespace

TEST_CASE("a full matrix is multiplied as a dense one, an emptier one by its blocks") {
  for (const BsrProduct product : kProducts) {
    for (const std::int64_t block : {32, 64, 128}) {
      CAPTURE(block);
      if (block < 128)  // whose kernels are as good as the library's
        CHECK(cheapest_route(problem(product, block, 1, true)) == BsrRoute::kFolded);
      CHECK(cheapest_route(problem(product, block, 0.1, true)) == BsrRoute::kHopper);
    }
    CHECK(cheapest_route(problem(product, 16, 0.5, false)) == BsrRoute::kFolded);
    CHECK(cheapest_route(problem(product, 64, 0.02, false)) == BsrRoute::kPlain);
  }
}

TEST_CASE("in tf32 the input gradient also takes the time to transpose its blocks") {
  BsrProblem p = problem(BsrProduct::kForward, 64, 0.2, true);
  p.dtype = DType::kFloat32;
  p.tf32 = true;
  p.cols = p.rows;  // else the gradient differs anyway
  const double forward = kernels::estimated_seconds(BsrRoute::kHopper, p);
  p.product = BsrProduct::kInputGradient;
  CHECK(kernels::estimated_seconds(BsrRoute::kHopper, p) > forward);
}

TEST_CASE("our own kernels take no longer for fewer blocks") {
  for (const BsrProduct product : kProducts) {
    for (const std::int64_t block : {16, 32, 64, 128}) {
      double before = 0;
      for (const double density : {0.0, 0.01, 0.1, 0.3, 0.6, 1.0}) {
        const BsrRoute route = block == 16 ? BsrRoute::kPlain : BsrRoute::kHopper;
        const double seconds =
            kernels::estimated_seconds(route, problem(product, block, density, true));
        CHECK(seconds >= before);
        before = seconds;
      }
    }
  }
}

TEST_CASE("a matrix without blocks, or no tokens, is nobody's reason to fold") {
  BsrProblem none = problem(BsrProduct::kForward, 64, 0, true);
  CHECK(cheapest_route(none) == BsrRoute::kHopper);
  none.tokens = 0;
  CHECK(cheapest_route(none) == BsrRoute::kHopper);
}

}  // namespace hew
