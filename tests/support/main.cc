#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "core/stream.h"

namespace {

// CTest's word for a test that could not be made here; it is never counted as passed.
constexpr int kSkipped = 77;

bool wants_gpu() {
  const char* device = std::getenv("HEW_TEST_DEVICE");
  return device != nullptr && std::string_view(device) == "cuda";
}

}  // namespace

int main(int argc, char** argv) {
  if (wants_gpu() && hew::cuda_device_count() == 0) {
    std::puts("[SKIP] no usable GPU");
    return kSkipped;
  }
  return doctest::Context(argc, argv).run();
}
