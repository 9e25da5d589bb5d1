#pragma once

#include "core/tensor.h"
#include "kernels/bsr.h"

namespace hew::kernels {

// A dense [N, K] seen as R × C blocks of b × b, the last row and column of blocks ragged: R =
// ⌈N/b⌉, C = ⌈K/b⌉. Sums run over an element order that does not depend on the number of threads.

/// norms[r, c] ← ‖W[r, c]‖_F / √(real elements of the block); W [N, K], norms float64 [R, C].
/// Throws ShapeError, DtypeError.
void block_norms(const ConstView& dense, std::int64_t block, const View& norms,
                 const Stream& stream);
/// The same of values [nnzb, b, b] into norms float64 [nnzb].
void live_block_norms(const ConstView& values, const BsrIndex& index, const View& norms,
                      const Stream& stream);
/// values[p] ← the p-th live block of dense [N, K], padding zero.
void gather_blocks(const ConstView& dense, const BsrIndex& index, const View& values,
                   const Stream& stream);
/// values[p] ← values[p] + the p-th live block of dense [N, K]; padding stays.
void accumulate_blocks(const ConstView& dense, const BsrIndex& index, const View& values,
                       const Stream& stream);
/// dense [N, K] ← the live blocks, zero where blocks are dead.
void scatter_blocks(const ConstView& values, const BsrIndex& index, const View& dense,
                    const Stream& stream);
/// moved[p] ← values[source[p]] for slices of the leading dimension, wherever source[p] ≥ 0; the
/// other slices of moved keep what they hold. source int64 [moved.shape[0]], below values.shape[0]
/// (not checked); moved is not values. Throws ShapeError, DtypeError.
void move_blocks(const ConstView& values, const ConstView& source, const View& moved,
                 const Stream& stream);
/// dots[r, c] ← Σ over block (r, c) of g ⊙ w, summed in float64; g and w [N, K], dots [R, C]; g and
/// dots have the accumulator of w's dtype.
void block_dot(const ConstView& g, const ConstView& w, std::int64_t block, const View& dots,
               const Stream& stream);

/// What blend_blocks() adds up; y and b may both be empty.
struct BlendBlocks {
  ConstView x;  // [N, K]
  ConstView a;  // float64 [R, C]
  ConstView y;  // [N, K]
  ConstView b;  // float64 [R, C]
  std::int64_t block = 0;
  View out;  // [N, K]; may be x or y
};
/// out ← a[r, c]·x + b[r, c]·y on each block (r, c), in the dtype of x, y and out, float32 or
/// float64, to which a and b are rounded. Throws ShapeError, DtypeError.
void blend_blocks(const BlendBlocks& args, const Stream& stream);

template <class T>
void block_norms(Cpu, const ConstView& dense, std::int64_t block, const View& norms);
template <class T>
void block_norms(Cuda, const ConstView& dense, std::int64_t block, const View& norms);
template <class T>
void live_block_norms(Cpu, const ConstView& values, const BsrIndex& index, const View& norms);
template <class T>
void live_block_norms(Cuda, const ConstView& values, const BsrIndex& index, const View& norms);
template <class T>
void gather_blocks(Cpu, const ConstView& dense, const BsrIndex& index, const View& values);
template <class T>
void gather_blocks(Cuda, const ConstView& dense, const BsrIndex& index, const View& values);
template <class T>
void accumulate_blocks(Cpu, const ConstView& dense, const BsrIndex& index, const View& values);
template <class T>
void accumulate_blocks(Cuda, const ConstView& dense, const BsrIndex& index, const View& values);
template <class T>
void scatter_blocks(Cpu, const ConstView& values, const BsrIndex& index, const View& dense);
template <class T>
void scatter_blocks(Cuda, const ConstView& values, const BsrIndex& index, const View& dense);
template <class T>
void move_blocks(Cpu, const ConstView& values, const ConstView& source, const View& moved);
template <class T>
void move_blocks(Cuda, const ConstView& values, const ConstView& source, const View& moved);
template <class T>
void block_dot(Cpu, const ConstView& g, const ConstView& w, std::int64_t block, const View& dots);
template <class T>
void block_dot(Cuda, const ConstView& g, const ConstView& w, std::int64_t block, const View& dots);
template <class T>
void blend_blocks(Cpu, const BlendBlocks& args);
template <class T>
void blend_blocks(Cuda, const BlendBlocks& args);

}  // namespace hew::kernels
