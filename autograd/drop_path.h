#pragma once

#include "autograd/variable.h"
#include "kernels/drop_path.h"

namespace hew::ag {

/// x [B, …] without the samples that are dropped with probability p, the others divided by 1 − p;
/// x itself if p is 0. Draws and errors: kernels::drop_path.
Variable drop_path(const Variable& x, const kernels::DropPathOptions& options);

}  // namespace hew::ag
