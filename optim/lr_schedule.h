#pragma once

#include <cstdint>

#include "optim/config.h"

namespace hew::optim {

/// config.lr times the schedule's factor f at `step` (from 0) of a run of `total` steps; the
/// schedule's marks are resolved. With w = warmup, p = max(w − 1, 0), e = total − 1:
///   step < w   f = (step + 1)/w: no step is wasted at 0, and step p has 1
///   then       f = 1 − (1 − final)·φ(x), x = (step − s)/(e − s) held to [0, 1]
///     constant φ = 0;   linear s = p, φ = x;   cosine s = p, φ = (1 − cos πx)/2
///     wsd      s = max(p, e − decay), φ = x: 1 up to and with step s, then over the last `decay`
///     steps
/// so that the last step has `final`, and steps past the end keep it.
double learning_rate(const OptimConfig& config, std::int64_t step, std::int64_t total);

}  // namespace hew::optim
