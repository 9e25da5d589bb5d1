#include "train/step_profile.h"

#include <doctest/doctest.h>

#include <vector>

#include "core/error.h"
#include "core/profiler.h"
#include "tests/support/device.h"

namespace hew::train {
namespace {

// The tables of steps first … last with one operation each, whose run ends with `last`.
std::vector<std::string> tables_of(const StepRange& range, std::int64_t first, std::int64_t last) {
  const Stream stream = make_stream(test::test_stream().device);
  StepProfile profile(range, stream);
  std::vector<std::string> tables;
  for (std::int64_t step = first; step <= last; ++step) {
    profile.begin_step(step);
    { const ProfiledRegion region(stream, "stir"); }
    std::string table = profile.end_step(step, step == last);
    if (!table.empty())
      tables.push_back(std::move(table));
  }
  CHECK(stream.state->profiler == nullptr);
  return tables;
}

bool covers(const std::vector<std::string>& tables, std::int64_t from, std::int64_t to) {
  return tables.size() == 1 &&
         tables.front().find(fmt::format("steps {} to {}:", from, to)) != std::string::npos &&
         tables.front().find("stir                                1.0 ") != std::string::npos;
}

}  // namespace

TEST_CASE("a range of steps gives one table, when it or the run ends") {
  CHECK(covers(tables_of({.begin = 2, .end = 4}, 1, 9), 2, 4));
  CHECK(covers(tables_of({.begin = 9, .end = 9}, 1, 9), 9, 9));
  CHECK(covers(tables_of({.begin = 7, .end = 20}, 1, 9), 7, 9));
  CHECK(covers(tables_of({.begin = 2, .end = 8}, 5, 9), 5, 8));  // resumed after step 4
  CHECK(tables_of({}, 1, 9).empty());
}

TEST_CASE("a range that no step of the run is in is refused") {
  const Stream& stream = test::test_stream();
  const StepProfile profile({.begin = 5, .end = 7}, stream);
  profile.require_reached(0, 5);
  profile.require_reached(6, 9);
  profile.require_reached(9, 9);  // nothing left to do, which the run says itself
  CHECK_THROWS_AS(profile.require_reached(0, 4), ConfigError);
  CHECK_THROWS_AS(profile.require_reached(7, 9), ConfigError);
  StepProfile({}, stream).require_reached(7, 9);
}

TEST_CASE("who leaves in the middle of a range leaves no profiler behind") {
  const Stream stream = make_cpu_stream();
  {
    StepProfile profile({.begin = 1, .end = 3}, stream);
    profile.begin_step(1);
    CHECK(stream.state->profiler != nullptr);
  }
  CHECK(stream.state->profiler == nullptr);
}

}  // namespace hew::train
