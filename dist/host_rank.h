#pragma once

#include "dist/comm.h"

namespace hew::dist {

/// Number of this rank among those of its machine, from 0: the GPU it takes where each has one.
/// Collective. Machines are told apart by their host names.
int rank_on_host(Communicator& comm);
/// How many ranks that machine has. Collective.
int ranks_on_host(Communicator& comm);

}  // namespace hew::dist
