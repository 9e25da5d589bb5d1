#pragma once

#include "core/dtype.h"

namespace hew {

/// What `threads` threads of this machine can do at once, measured now: the best of several short
/// runs, since whatever else runs here only slows them down.
struct MachineRate {
  double multiply_add_flops = 0;  // FLOP/s of independent multiply-adds in registers, 2 each
  double copy_bytes = 0;          // bytes/s of a large copy, read and written bytes both counted
};

/// dtype is float32 or float64. Throws DtypeError.
MachineRate measure_machine(DType dtype, int threads);

}  // namespace hew
