#include "core/compute_capability.h"

#include <doctest/doctest.h>

#include <cstdlib>
#include <string>

#include "core/cuda_device.h"
#include "core/error.h"

namespace hew {
namespace {

constexpr Device kGpu{.type = DeviceType::kCuda, .index = 0};

}  // namespace

TEST_CASE("a stream keeps the compute capability that its device was opened with") {
  unsetenv(cuda::kCapabilityCap);
  const Stream whole = make_stream(kGpu);
  const int own = cuda::compute_capability(whole);
  CHECK(own >= 80);
  setenv(cuda::kCapabilityCap, "80", /*replace=*/1);
  const Stream capped = make_stream(kGpu);
  const bool told = cuda::describe(0).find(" used as sm_80,") != std::string::npos;
  CHECK(told == (own > 80));
  unsetenv(cuda::kCapabilityCap);
  CHECK(cuda::compute_capability(capped) == 80);
  CHECK(cuda::compute_capability(side_stream(capped)) == 80);
  CHECK(cuda::compute_capability(whole) == own);
}

TEST_CASE("no device is opened with a cap that is none") {
  setenv(cuda::kCapabilityCap, "ampere", /*replace=*/1);
  CHECK_THROWS_AS(make_stream(kGpu), ConfigError);
  unsetenv(cuda::kCapabilityCap);
}

}  // namespace hew
