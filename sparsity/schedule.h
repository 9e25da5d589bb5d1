#pragma once

#include <cstdint>

#include "sparsity/rule.h"

namespace hew::sparsity {

/// Wanted sparsity at `step`; with x = (step − i0)/(i1 − i0), s_init before i0, s_max from i1 on:
///   constant  s_max at every step
///   cubic     s_max + (s_init − s_max)·(1 − x)³     (Zhu and Gupta 2017)
///   linear    s_init + (s_max − s_init)·x
///   cosine    s_max + (s_init − s_max)·(1 + cos πx)/2
///   table     of the last point whose step is not after `step`; of the first before it
double sparsity_at(const SparsitySchedule& schedule, std::int64_t step);

/// True at i0, every `every` steps after it while before i1, and at i1. With every = 0 (a static
/// mask) nowhere.
bool refreshes_at(const SparsityRule& rule, std::int64_t step);

/// β at `step`.
double sharpness_at(const Sharpness& sharpness, std::int64_t step);

/// RigL's α_i = α_0/2·(1 + cos πx), 0 from i1 on.
double swap_fraction_at(const SparsityRule& rule, std::int64_t step);

}  // namespace hew::sparsity
