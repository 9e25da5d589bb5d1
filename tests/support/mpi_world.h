#pragma once

#include "dist/comm.h"

namespace hew::test {

/// The communicator over all ranks that mpirun started this test on.
dist::Communicator& world();

}  // namespace hew::test
