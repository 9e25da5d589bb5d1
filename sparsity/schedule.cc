#include "sparsity/schedule.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

namespace hew::sparsity {
namespace {

// x of the formulas, held to [0, 1].
double progress(const SparsitySchedule& schedule, std::int64_t step) {
  const auto begin = static_cast<double>(schedule.begin.step);
  const auto end = static_cast<double>(schedule.end.step);
  return std::clamp((static_cast<double>(step) - begin) / std::max(end - begin, 1.0), 0.0, 1.0);
}

double table_at(const SparsitySchedule& schedule, std::int64_t step) {
  double sparsity = schedule.table.front().sparsity;
  for (const SchedulePoint& point : schedule.table) {
    if (point.at.step <= step)
      sparsity = point.sparsity;
  }
  return sparsity;
}

}  // namespace

double sparsity_at(const SparsitySchedule& schedule, std::int64_t step) {
  const double x = progress(schedule, step);
  const double gap = schedule.initial - schedule.final;
  switch (schedule.kind) {
    case ScheduleKind::kConstant:
      return schedule.final;
    case ScheduleKind::kCubic:
      return schedule.final + gap * (1 - x) * (1 - x) * (1 - x);
    case ScheduleKind::kLinear:
      return schedule.final + gap * (1 - x);
    case ScheduleKind::kCosine:
      return schedule.final + gap * (1 + std::cos(std::numbers::pi * x)) / 2;
    case ScheduleKind::kTable:
      return table_at(schedule, step);
  }
  return schedule.final;
}

bool refreshes_at(const SparsityRule& rule, std::int64_t step) {
  const std::int64_t begin = rule.schedule.begin.step;
  const std::int64_t end = rule.schedule.end.step;
  if (rule.every == 0 || step < begin || step > end)
    return false;
  return step == end || (step - begin) % rule.every == 0;
}

std::int64_t selected_at(const SparsityRule& rule, std::int64_t step) {
  if (selects_every_step(rule))
    return rule.freeze_scores_at ? std::min(step, rule.freeze_scores_at->step) : step;
  const std::int64_t begin = rule.schedule.begin.step;
  const std::int64_t end = rule.schedule.end.step;
  const std::int64_t before = step - 1;
  if (rule.every == 0 || before < begin)
    return 0;
  return before >= end ? end : before - (before - begin) % rule.every;
}

std::int64_t next_change(const SparsityRule& rule, std::int64_t step) {
  constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();
  const std::int64_t begin = rule.schedule.begin.step;
  const std::int64_t end = rule.schedule.end.step;
  if (selects_every_step(rule)) {
    const std::int64_t freeze = rule.freeze_scores_at ? rule.freeze_scores_at->step : kNever;
    if (step >= freeze)
      return kNever;
    return std::min(step < begin ? begin : step < end ? step + 1 : kNever, freeze);
  }
  if (rule.every == 0 || step > end)
    return kNever;
  if (step < begin)
    return begin;
  if (refreshes_at(rule, step))
    return step + 1;
  return step + std::min(rule.every - (step - begin) % rule.every, end - step);
}

double sharpness_at(const Sharpness& sharpness, std::int64_t step) {
  const auto end = static_cast<double>(std::max<std::int64_t>(sharpness.end.step, 1));
  const double x = std::clamp(static_cast<double>(step) / end, 0.0, 1.0);
  return sharpness.initial + (sharpness.final - sharpness.initial) * x;
}

double swap_fraction_at(const SparsityRule& rule, std::int64_t step) {
  if (step >= rule.schedule.end.step)
    return 0;
  return rule.swap_fraction / 2 * (1 + std::cos(std::numbers::pi * progress(rule.schedule, step)));
}

}  // namespace hew::sparsity
