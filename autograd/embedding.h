#pragma once

#include "autograd/variable.h"

namespace hew::ag {

/// Rows of a table: ids int32 of any shape [...], table [V, C] → [..., C].
/// Errors: kernels::embedding_forward.
Variable embedding(const Tensor& ids, const Variable& table);

}  // namespace hew::ag
