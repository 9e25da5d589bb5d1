#pragma once

#include "autograd/variable.h"

namespace hew::ag {

/// a + b, one shape. Throws ShapeError.
Variable add(const Variable& a, const Variable& b);
/// x + b, where b's shape is the tail of x's: [..., C] + [C], [B, T, C] + [T, C]. Throws
/// ShapeError.
Variable add_broadcast(const Variable& x, const Variable& b);
/// x [B, T, C] + rows [begin, begin + T) of table [rows, C]. Throws ShapeError.
Variable add_rows(const Variable& x, const Variable& table, std::int64_t begin);
/// a ⊙ b, one shape. Throws ShapeError.
Variable multiply(const Variable& a, const Variable& b);
/// factor·x
Variable scale(const Variable& x, double factor);

}  // namespace hew::ag
