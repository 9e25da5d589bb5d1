#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "core/stream.h"
#include "dist/mpi_comm.h"
#include "tests/support/mpi_world.h"

namespace hew::test {
namespace {

dist::Communicator* the_world = nullptr;

}  // namespace

dist::Communicator& world() {
  return *the_world;
}

}  // namespace hew::test

// CTest's word for a test that could not be made here; it is never counted as passed.
constexpr int kSkipped = 77;

int main(int argc, char** argv) {
  hew::dist::MpiCommunicator comm;
  hew::test::the_world = &comm;
  const char* device = std::getenv("HEW_TEST_DEVICE");
  if (device != nullptr && std::string_view(device) == "cuda" &&
      hew::cuda_device_count() < comm.size()) {
    if (comm.rank() == 0)
      std::printf("[SKIP] needs %d GPUs\n", comm.size());
    return kSkipped;
  }
  return doctest::Context(argc, argv).run();
}
