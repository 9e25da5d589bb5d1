#pragma once

#include "autograd/variable.h"

namespace hew::ag {

/// Rows of a table: ids int32 of any shape [...], table [V, C] → [..., C].
/// Throws DataError naming the first id outside [0, V).
Variable embedding(const Tensor& ids, const Variable& table);

}  // namespace hew::ag
