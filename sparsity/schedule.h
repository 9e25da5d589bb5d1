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

/// The step whose wanted sparsity the mask has that `step` computes with: the last refresh before
/// it, since its own comes after its products, and 0 until there has been one; where masks are
/// selected anew in every forward `step` itself, until the scores freeze.
std::int64_t selected_at(const SparsityRule& rule, std::int64_t step);

/// A step after `step` until which the wanted sparsity of selected_at(), refreshes_at() and whether
/// scores are frozen stay as they are; the largest number if none of them changes any more.
std::int64_t next_change(const SparsityRule& rule, std::int64_t step);

/// β at `step`.
double sharpness_at(const Sharpness& sharpness, std::int64_t step);

/// RigL's α_i = α_0/2·(1 + cos πx), 0 from i1 on.
double swap_fraction_at(const SparsityRule& rule, std::int64_t step);

}  // namespace hew::sparsity
