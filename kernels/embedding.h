#pragma once

#include "core/tensor.h"
#include "kernels/dispatch.h"

namespace hew::kernels {

/// y[..., :] ← table[ids[...], :]; ids int32 [...], table [V, C], y [..., C].
/// Throws ShapeError, DtypeError, and DataError naming the first id outside [0, V); on a GPU, which
/// would have to wait to tell, such an id's row is NaN instead.
void embedding_forward(const ConstView& ids, const ConstView& table, const View& y,
                       const Stream& stream);
/// dtable[i, :] ← Σ over positions with id i of dy, in a fixed order; zero elsewhere. dtable has
/// the accumulator of dy's dtype.
void embedding_backward(const ConstView& ids, const ConstView& dy, const View& dtable,
                        const Stream& stream);

template <class T>
void embedding_forward(Cpu, const ConstView& ids, const ConstView& table, const View& y);
template <class T>
void embedding_forward(Cuda, const ConstView& ids, const ConstView& table, const View& y);
template <class T>
void embedding_backward(Cpu, const ConstView& ids, const ConstView& dy, const View& dtable);
template <class T>
void embedding_backward(Cuda, const ConstView& ids, const ConstView& dy, const View& dtable);

}  // namespace hew::kernels
