#pragma once

#include "autograd/variable.h"

namespace hew::ag {

/// The same elements in row-major order under another shape; shares memory. Throws ShapeError.
Variable reshape(const Variable& x, const Shape& shape);

/// Dimension i of the result is dimension axes[i] of x. Throws ShapeError.
Variable permute(const Variable& x, const std::vector<int>& axes);

/// Columns [begin, begin + count) of x [M, C] → [M, count]. Throws ShapeError.
Variable columns(const Variable& x, std::int64_t begin, std::int64_t count);

}  // namespace hew::ag
