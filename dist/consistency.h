#pragma once

#include <span>
#include <string>
#include <utility>
#include <vector>

#include "autograd/parameter.h"
#include "dist/comm.h"

namespace hew::dist {

/// Every rank hashes each tensor (shape, dtype and bytes) and all compare. Where they differ, Error
/// is thrown on every rank with the same text, which names the tensor and the ranks that disagree
/// with the most, rank 0's side in a tie: `[consistency] blocks.0.attention.q.weight on rank 2
/// differs from the other ranks`. Lists of other lengths or names are an Error likewise. Costs one
/// pass over the bytes and 8 bytes a tensor and rank over the network.
void check_equal(Communicator& comm, std::span<const std::pair<std::string, Tensor>> tensors);

/// Gives all ranks rank 0's values. Throws Error on every rank, before anything is written, where
/// names, shapes or dtypes differ.
void broadcast_parameters(Communicator& comm, std::span<ag::Parameter* const> parameters);

}  // namespace hew::dist
