#include "optim/lr_schedule.h"

#include <doctest/doctest.h>

#include <vector>

namespace hew {
namespace {

using optim::LrScheduleKind;

optim::OptimConfig make_config(LrScheduleKind kind, std::int64_t warmup, double final,
                               std::int64_t decay = 0) {
  return {.lr = 2,
          .schedule = {.kind = kind,
                       .warmup = StepMark::at(warmup),
                       .final = final,
                       .decay = StepMark::at(decay)}};
}

void check_rates(const optim::OptimConfig& config, const std::vector<double>& expected) {
  for (std::size_t i = 0; i < expected.size(); ++i) {
    CHECK(optim::learning_rate(config, static_cast<std::int64_t>(i),
                               static_cast<std::int64_t>(expected.size())) ==
          doctest::Approx(expected[i]).epsilon(1e-12));
  }
}

}  // namespace

TEST_CASE("every schedule, step by step, with and without warm-up") {
  check_rates(make_config(LrScheduleKind::kConstant, 0, 0.1), {2, 2, 2});
  check_rates(make_config(LrScheduleKind::kConstant, 4, 0.1), {0.5, 1, 1.5, 2, 2, 2});
  check_rates(make_config(LrScheduleKind::kLinear, 0, 0), {2, 1.5, 1, 0.5, 0});
  check_rates(make_config(LrScheduleKind::kLinear, 2, 0.5), {1, 2, 1.75, 1.5, 1.25, 1});
  check_rates(make_config(LrScheduleKind::kCosine, 0, 0),
              {2, 1.7071067811865475, 1, 0.2928932188134524, 0});
  check_rates(make_config(LrScheduleKind::kCosine, 2, 0.5), {1, 2, 1.5 + 0.25, 1.25, 1 + 0});
  check_rates(make_config(LrScheduleKind::kWsd, 2, 0, 4), {1, 2, 2, 2, 1.5, 1, 0.5, 0});
  check_rates(make_config(LrScheduleKind::kWsd, 0, 0.5, 2), {2, 2, 2, 1.5, 1});
}

TEST_CASE("schedules hold at their edges") {
  for (const LrScheduleKind kind : {LrScheduleKind::kConstant, LrScheduleKind::kLinear,
                                    LrScheduleKind::kCosine, LrScheduleKind::kWsd}) {
    check_rates(make_config(kind, 0, 0.1), {2});                    // a run of one step
    check_rates(make_config(kind, 3, 0.1), {2.0 / 3, 4.0 / 3, 2});  // nothing but warm-up
    check_rates(make_config(kind, 10, 0.1, 9), {0.2, 0.4});         // cut off within it
    const double end = kind == LrScheduleKind::kConstant ? 2 : 0.2;
    CHECK(optim::learning_rate(make_config(kind, 1, 0.1, 2), 9, 10) == doctest::Approx(end));
    CHECK(optim::learning_rate(make_config(kind, 1, 0.1, 2), 99, 10) == doctest::Approx(end));
  }
  // A decay longer than what warm-up leaves begins at the peak; no decay keeps the rate.
  check_rates(make_config(LrScheduleKind::kWsd, 2, 0, 100), {1, 2, 1, 0});
  check_rates(make_config(LrScheduleKind::kWsd, 0, 0, 0), {2, 2, 2});
}

}  // namespace hew
