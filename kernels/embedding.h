#pragma once

#include "core/tensor.h"
#include "kernels/dispatch.h"

namespace hew::kernels {

/// y[..., :] ← table[ids[...], :]; ids int32 [...], table [V, C], y [..., C].
/// Throws ShapeError, DtypeError, and DataError naming the first id outside [0, V); on a GPU, which
/// would have to wait to tell, such an id's row is NaN instead.
void embedding_forward(const ConstView& ids, const ConstView& table, const View& y,
                       const Stream& stream);
/// dtable[i, :] ← Σ over positions with id i of dy, in a fixed order; zero elsewhere. With
/// `accumulate` the sums are added to what dtable holds. dtable has the accumulator of dy's dtype.
/// Throws as embedding_forward does; on a GPU a position whose id is outside [0, V) is left out.
void embedding_backward(const ConstView& ids, const ConstView& dy, const View& dtable,
                        bool accumulate, const Stream& stream);

template <class T>
void embedding_forward(Cpu, const ConstView& ids, const ConstView& table, const View& y);
template <class T>
void embedding_forward(Cuda, const ConstView& ids, const ConstView& table, const View& y);
template <class T>
void embedding_backward(Cpu, const ConstView& ids, const ConstView& dy, const View& dtable,
                        bool accumulate);
template <class T>
void embedding_backward(Cuda, const ConstView& ids, const ConstView& dy, const View& dtable,
                        bool accumulate);

}  // namespace hew::kernels
