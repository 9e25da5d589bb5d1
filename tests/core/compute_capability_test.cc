#include "core/compute_capability.h"

#include <doctest/doctest.h>

#include "core/error.h"

namespace hew {

TEST_CASE("a device is used as what it is, or as less") {
  CHECK(cuda::capped_capability(90, nullptr) == 90);
  CHECK(cuda::capped_capability(90, "80") == 80);
  CHECK(cuda::capped_capability(90, "89") == 89);
  CHECK(cuda::capped_capability(90, "90") == 90);
  CHECK(cuda::capped_capability(80, "90") == 80);
  CHECK(cuda::capped_capability(86, "120") == 86);
}

TEST_CASE("what is no compute capability is refused by the name of the variable") {
  for (const char* cap :
       {"", " ", "8", "8.0", "sm_80", "80a", " 80", "80 ", "-80", "79", "1000", "99999999999"}) {
    CAPTURE(cap);
    CHECK_THROWS_AS(cuda::capped_capability(90, cap), ConfigError);
  }
  CHECK_THROWS_WITH(cuda::capped_capability(90, "8.0"),
                    "HEW_CUDA_CAPABILITY: got \"8.0\", expected a compute capability from 80 on, "
                    "as 80 or 90");
}

}  // namespace hew
