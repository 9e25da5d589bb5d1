#pragma once

#include <memory>

#include "dist/comm.h"

namespace hew::dist {

/// Whether large gradients and weights go by copy engines where all GPUs are on one host and reach
/// each other's memory (dist/peer_copies.h), or all through NCCL.
enum class PeerCopying { kWherePossible, kNever };

/// The ranks of `host`, one GPU each: views on the host and all that names no stream go through
/// `host`, views on a GPU through NCCL, whose id rank 0 passes on over `host`. No call of NCCL's
/// blocks: what is under way is polled, and a failure or a passed deadline ends it (ncclCommAbort)
/// and is an Error that names rank and step; where ranks are missing on the host too, it names
/// them. `stream` says which GPU, and lets the communicator watch over every wait for it, be it in
/// an evaluation or in a checkpoint; `host` must outlive the communicator, which must outlive work
/// on its streams. Throws BackendError, in a build without CUDA always.
std::unique_ptr<Communicator> make_nccl_communicator(
    Communicator& host, const Stream& stream, PeerCopying copying = PeerCopying::kWherePossible);

}  // namespace hew::dist
