#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "kernels/global_norm.h"
#include "tests/support/compare.h"
#include "tests/support/device.h"
#include "tests/support/random.h"
#include "tests/support/sizes.h"

namespace hew {
namespace {

std::vector<double> norm_of(const std::vector<Tensor>& gradients, double max_norm,
                            const Stream& stream) {
  const std::vector<ConstView> views(gradients.begin(), gradients.end());
  Tensor result =
      test::poisoned({kernels::kNormFields + std::ssize(gradients)}, DType::kFloat64, stream);
  kernels::global_norm(views, max_norm, result, stream);
  return result.to_vector<double>();
}

// Gradients on the GPU in mixed dtypes, and the same numbers on the CPU in float64.
struct Gradients {
  std::vector<Tensor> here;
  std::vector<Tensor> there;

  void add(std::int64_t n, DType dtype, bool shifted = false) {
    const Tensor wide =
        test::random_tensor({n + 1}, DType::kFloat64, make_cpu_stream(), 7 + here.size());
    const Tensor narrow = test::rounded(wide, dtype);
    const std::int64_t first = shifted ? 1 : 0;
    here.push_back(test::rounded(narrow, DType::kFloat64).rows(first, n));
    there.push_back(test::to(narrow, test::gpu_stream()).rows(first, n));
  }
};

}  // namespace

TEST_CASE("the global norm on the GPU is that of the CPU") {
  Gradients all;
  std::uint8_t turn = 0;
  // A chunk is 16384 elements.
  for (const std::int64_t n : {1, 0, 7, 1021, 16383, 16384, 16385, 1000003, 33, 5000011, 0}) {
    for (const DType dtype : {DType::kFloat32, DType::kFloat64, DType::kBFloat16}) {
      all.add(test::cut(n, 50021), dtype, ++turn % 4 == 0);
    }
  }
  for (const double max_norm : {0.0, 1.0, 1e9}) {
    const std::vector<double> expected = norm_of(all.here, max_norm, make_cpu_stream());
    const std::vector<double> got = norm_of(all.there, max_norm, test::gpu_stream());
    REQUIRE(got.size() == expected.size());
    for (std::size_t i = 0; i < got.size(); ++i) {
      CAPTURE(i);
      // Both add up in double: √n roundings of it.
      CHECK(std::abs(got[i] - expected[i]) <= 1e-12 * std::abs(expected[i]));
    }
    CHECK(got == norm_of(all.there, max_norm, test::gpu_stream()));
  }
}

TEST_CASE("no gradients, and more than the last block has warps or threads") {
  CHECK(norm_of({}, 1, test::gpu_stream()) == std::vector<double>{0, 1, -1});
  Gradients all;
  for (std::int64_t i = 0; i < 1500; ++i) all.add(i % 40, DType::kFloat32);
  const std::vector<double> expected = norm_of(all.here, 1, make_cpu_stream());
  const std::vector<double> got = norm_of(all.there, 1, test::gpu_stream());
  for (std::size_t i = 0; i < got.size(); ++i) {
    CHECK(std::abs(got[i] - expected[i]) <= 1e-12 * std::abs(expected[i]));
  }
}

TEST_CASE("the first gradient that is not finite is found on the GPU") {
  for (const float planted :
       {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
    for (const std::int64_t at : {0, 16383, 16384, 20000}) {
      Gradients all;
      constexpr std::array kPlanted{93U, 41U, 77U};
      for (unsigned int i = 0; i < 100; ++i) {
        const bool plain = std::ranges::find(kPlanted, i) == kPlanted.end();
        all.add(plain ? test::cut(20001, 101) : 20001, DType::kFloat32);
      }
      for (const std::size_t which : kPlanted) {
        all.there[which].rows(at, 1).copy_from(
            Tensor::from(std::vector<float>{planted}, {1}, make_cpu_stream()));
      }
      for (const double max_norm : {0.0, 1.0}) {
        const std::vector<double> got = norm_of(all.there, max_norm, test::gpu_stream());
        CHECK_FALSE(std::isfinite(got[0]));
        CHECK(std::isnan(got[1]));
        CHECK(got[2] == 41);
        CHECK(std::isfinite(got[3]));
      }
    }
  }
}

}  // namespace hew
