#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

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

int main(int argc, char** argv) {
  hew::dist::MpiCommunicator comm;
  hew::test::the_world = &comm;
  return doctest::Context(argc, argv).run();
}
