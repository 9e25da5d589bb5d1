#pragma once

#include "autograd/variable.h"

namespace hew::ag {

/// A class token in front of x's tokens, and the positions of all: x [B, n, C], class_token [C] or
/// undefined, positions [T, C] with T = n + 1, or n without a class token → [B, T, C]. Formula and
/// errors: kernels::JoinTokens.
Variable join_tokens(const Variable& x, const Variable& class_token, const Variable& positions);

/// The first of every T tokens of x + residual: [B·T, C] → [B, C]; residual may be undefined.
/// Throws ShapeError.
Variable first_tokens(const Variable& x, const Variable& residual, std::int64_t tokens);

/// Their mean: x [B, T, C] → [B, C]. Errors: kernels::mean_tokens.
Variable mean_tokens(const Variable& x);

}  // namespace hew::ag
