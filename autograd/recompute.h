#pragma once

#include <functional>

#include "autograd/variable.h"

namespace hew::ag {

/// Part of a model: a function of one variable that either records a tape or does not, and computes
/// the same bits both times.
using Segment = std::function<Variable(const Variable& x, bool taped)>;

/// segment(x) whose tape is not kept: only x is, and the backward pass computes the segment once
/// more (Chen et al. 2016). Parameters that the segment uses get their gradients as if it had been
/// on the tape; it must use at least one variable that requires a gradient, and x must.
Variable recomputed(const char* name, const Variable& x, const Segment& segment);

}  // namespace hew::ag
