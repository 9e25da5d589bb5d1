#pragma once

#include <vector>

#include "core/tensor.h"
#include "kernels/dispatch.h"

namespace hew::kernels {

/// y[..., :] ← table[ids[...], :]; ids int32 [...], table [V, C], y [..., C].
/// Throws ShapeError, DtypeError, and DataError naming the first id outside [0, V); on a GPU, which
/// would have to wait to tell, such an id's row is NaN instead.
void embedding_forward(const ConstView& ids, const ConstView& table, const View& y,
                       const Stream& stream);

/// What embedding_backward goes by: which positions have an id.
struct IdGroups {
  Tensor ids;  // int32 [...]
  std::int64_t rows = 0;
  // On a GPU alone:
  Tensor entries;               // int32 [count, 2], an IdEntry each, by id, equal ones by position
  Tensor ranges;                // int32 [rows + 1, 2], the IdRange of every id, then of all others
  std::vector<Tensor> scratch;  // in use until the other two are made
};

/// Groups of the ids of a table of so many rows. On the CPU there is nothing to do. Throws
/// DtypeError, and ShapeError without rows, on a GPU also for more than 2³⁰ ids or rows.
IdGroups group_ids(const Tensor& ids, std::int64_t rows, const Stream& stream);

/// dtable[i, :] ← Σ over positions with id i of dy, in a fixed order; zero elsewhere. With
/// `accumulate` the sums are added to what dtable [V, C] holds. dtable has the accumulator of dy's
/// dtype; the groups are those of V rows. Throws as embedding_forward does; on a GPU a position
/// whose id is outside [0, V) is left out.
void embedding_backward(const IdGroups& groups, const ConstView& dy, const View& dtable,
                        bool accumulate, const Stream& stream);

template <class T>
void embedding_forward(Cpu, const ConstView& ids, const ConstView& table, const View& y);
template <class T>
void embedding_forward(Cuda, const ConstView& ids, const ConstView& table, const View& y);
IdGroups group_ids(Cpu, const Tensor& ids, std::int64_t rows);
IdGroups group_ids(Cuda, const Tensor& ids, std::int64_t rows);
template <class T>
void embedding_backward(Cpu, const IdGroups& groups, const ConstView& dy, const View& dtable,
                        bool accumulate);
template <class T>
void embedding_backward(Cuda, const IdGroups& groups, const ConstView& dy, const View& dtable,
                        bool accumulate);

}  // namespace hew::kernels
