#pragma once

#include "kernels/bsr_mlp.h"

namespace hew::kernels::hopper {

/// Whether bsr_mlp.cuh's kernel takes this: the device is a Hopper, there is a schedule, all is
/// bfloat16 and rows are aligned for TMA.
bool takes(Cuda backend, const BsrMlpArgs& args);

/// For b = 32 an infinity or NaN in x or in the hidden matrix may reach rows of W that have no
/// block there.
void bsr_mlp_forward(Cuda backend, const BsrMlpArgs& args);

}  // namespace hew::kernels::hopper
