#pragma once

#include "core/tensor.h"
#include "kernels/dispatch.h"

namespace hew::kernels {

/// y[..., :] ← table[ids[...], :]; ids int32 [...], table [V, C], y [..., C].
/// Throws ShapeError, DtypeError, and DataError naming the first id outside [0, V).
void embedding_forward(const ConstView& ids, const ConstView& table, const View& y,
                       const Stream& stream);
/// dtable[i, :] ← Σ over positions with id i of dy, in the order of positions; zero elsewhere.
void embedding_backward(const ConstView& ids, const ConstView& dy, const View& dtable,
                        const Stream& stream);

template <class T>
void embedding_forward(Cpu, const ConstView& ids, const ConstView& table, const View& y);
template <class T>
void embedding_backward(Cpu, const ConstView& ids, const ConstView& dy, const View& dtable);

}  // namespace hew::kernels
