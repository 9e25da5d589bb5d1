#pragma once

#include "core/tensor.h"
#include "kernels/dispatch.h"

namespace hew::kernels {

/// A mask over a grid of blocks, and where the index of its live blocks goes (kernels/bsr.h).
struct BlockIndexArgs {
  ConstView mask;  // uint8 [R, C]; 0 is dead, 1 live
  View crow;       // int32 [R + 1]
  View col;        // int32 [nnzb]
  View ccol;       // int32 [C + 1]
  View row;        // int32 [nnzb]
  View position;   // int32 [nnzb]
};

/// crow, col, ccol, row, position ← the index of the mask's live blocks, of which there are nnzb; a
/// GPU does not check that, on the CPU it is a ShapeError. Throws ShapeError, DtypeError.
void index_blocks(const BlockIndexArgs& args, const Stream& stream);

void index_blocks(Cpu, const BlockIndexArgs& args);
void index_blocks(Cuda, const BlockIndexArgs& args);

}  // namespace hew::kernels
