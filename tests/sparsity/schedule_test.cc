#include "sparsity/schedule.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <limits>
#include <optional>
#include <tuple>
#include <vector>

namespace hew::sparsity {
namespace {

SparsityRule rule(ScheduleKind kind) {
  SparsityRule r;
  r.schedule = {.kind = kind,
                .initial = 0.2,
                .final = 0.8,
                .begin = StepMark::at(10),
                .end = StepMark::at(30),
                .table = {}};
  r.every = 7;
  r.swap_fraction = 0.3;
  return r;
}

}  // namespace

TEST_CASE("schedules hold s_init before i0, s_max from i1 on, and their formula between") {
  for (const ScheduleKind kind :
       {ScheduleKind::kCubic, ScheduleKind::kLinear, ScheduleKind::kCosine}) {
    const SparsitySchedule schedule = rule(kind).schedule;
    CHECK(sparsity_at(schedule, 0) == doctest::Approx(0.2));
    CHECK(sparsity_at(schedule, 10) == doctest::Approx(0.2));
    CHECK(sparsity_at(schedule, 30) == doctest::Approx(0.8));
    CHECK(sparsity_at(schedule, 1000) == doctest::Approx(0.8));
  }
  CHECK(sparsity_at(rule(ScheduleKind::kCubic).schedule, 15) ==
        doctest::Approx(0.8 - 0.6 * 0.421875));
  CHECK(sparsity_at(rule(ScheduleKind::kLinear).schedule, 15) == doctest::Approx(0.35));
  CHECK(sparsity_at(rule(ScheduleKind::kCosine).schedule, 20) == doctest::Approx(0.5));
  CHECK(sparsity_at(rule(ScheduleKind::kConstant).schedule, 0) == 0.8);
}

TEST_CASE("a table is a staircase") {
  SparsitySchedule schedule = rule(ScheduleKind::kTable).schedule;
  schedule.table = {{StepMark::at(5), 0.1}, {StepMark::at(9), 0.6}};
  CHECK(sparsity_at(schedule, 0) == 0.1);
  CHECK(sparsity_at(schedule, 8) == 0.1);
  CHECK(sparsity_at(schedule, 9) == 0.6);
}

TEST_CASE("refreshes come at i0, every `every` steps, and always at i1") {
  std::vector<std::int64_t> steps;
  for (std::int64_t step = 0; step < 60; ++step) {
    if (refreshes_at(rule(ScheduleKind::kCubic), step))
      steps.push_back(step);
  }
  CHECK(steps == std::vector<std::int64_t>{10, 17, 24, 30});
  SparsityRule still = rule(ScheduleKind::kConstant);
  still.every = 0;
  CHECK_FALSE(refreshes_at(still, 10));
}

TEST_CASE("between two changes a mask's sparsity, refreshes and frozen scores stay the same") {
  std::vector<SparsityRule> rules;
  for (const std::int64_t every : {0, 1, 7, 20, 1000}) {
    rules.push_back(rule(ScheduleKind::kCubic));
    rules.back().every = every;
  }
  for (const Score score : {Score::kLearned, Score::kSoftMagnitude}) {
    for (const std::optional<StepMark>& freeze :
         {std::optional<StepMark>{}, std::optional(StepMark::at(0)), std::optional(StepMark::at(5)),
          std::optional(StepMark::at(20)), std::optional(StepMark::at(47))}) {
      rules.push_back(rule(ScheduleKind::kLinear));
      rules.back().score = score;
      rules.back().freeze_scores_at = freeze;
    }
  }
  for (const SparsityRule& r : rules) {
    const auto state = [&r](std::int64_t step) {
      const bool selects = selects_every_step(r);
      return std::tuple(sparsity_at(r.schedule, selected_at(r, step)),
                        !selects && refreshes_at(r, step),
                        selects && r.freeze_scores_at && step >= r.freeze_scores_at->step);
    };
    double live = sparsity_at(r.schedule, 0);  // as a run goes through its steps
    for (std::int64_t step = 0; step < 60; ++step) {
      const bool selects = selects_every_step(r);
      const std::int64_t until = r.freeze_scores_at ? r.freeze_scores_at->step : 1000;
      if (selects && step <= until)
        live = sparsity_at(r.schedule, step);
      CHECK(sparsity_at(r.schedule, selected_at(r, step)) == live);
      if (!selects && refreshes_at(r, step))  // behind the step's products
        live = sparsity_at(r.schedule, step);
      const std::int64_t next = next_change(r, step);
      REQUIRE(next > step);
      for (std::int64_t later = step; later < std::min<std::int64_t>(next, 60); ++later)
        CHECK(state(later) == state(step));
    }
    CHECK(next_change(r, 59) == std::numeric_limits<std::int64_t>::max());
  }
}

TEST_CASE("the swap fraction falls along a cosine and ends at i1") {
  const SparsityRule r = rule(ScheduleKind::kConstant);
  CHECK(swap_fraction_at(r, 10) == doctest::Approx(0.3));
  CHECK(swap_fraction_at(r, 20) == doctest::Approx(0.15));
  CHECK(swap_fraction_at(r, 30) == 0);
}

}  // namespace hew::sparsity
