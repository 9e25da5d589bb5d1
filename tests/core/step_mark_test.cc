#include "core/step_mark.h"

#include <doctest/doctest.h>

#include <string>

using hew::parse_step_mark;
using hew::StepMark;

TEST_CASE("step marks keep what was written and resolve against the run") {
  const auto step_of = [](const char* text, std::int64_t total) {
    auto mark = parse_step_mark(text);
    REQUIRE(mark.has_value());
    CHECK(to_string(*mark) == text);
    mark->resolve(total);
    return mark->step;
  };
  CHECK(step_of("0", 100) == 0);
  CHECK(step_of("250", 100) == 250);
  CHECK(step_of("-1", 100) == 99);
  CHECK(step_of("0%", 7) == 0);
  CHECK(step_of("100%", 7) == 7);
  CHECK(step_of("50%", 7) == 3);
  CHECK(step_of("33.3%", 1000) == 333);
  for (int percent = 0; percent <= 100; ++percent) {  // no rounding error reaches a whole answer
    CHECK(step_of((std::to_string(percent) + "%").c_str(), 100) == percent);
  }
}

TEST_CASE("anything else is no step mark") {
  for (const char* text : {"", "%", "-5%", "101%", "nan%", "1.5", "1e3", "5 ", " 5", "+5", "5%%",
                           "99999999999999999999", "9007199254740993"}) {
    CAPTURE(text);
    CHECK_FALSE(parse_step_mark(text).has_value());
  }
}

TEST_CASE("marks are equal as written") {
  StepMark resolved = StepMark::percent(25);
  resolved.resolve(1000);
  CHECK(resolved == StepMark::percent(25));
  CHECK_FALSE(resolved == StepMark::at(250));
}
