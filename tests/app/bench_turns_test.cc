#include "app/bench_turns.h"

#include <doctest/doctest.h>

#include <array>
#include <chrono>
#include <string>
#include <thread>

namespace hew {

TEST_CASE("median is the middle of the values, the upper of two") {
  CHECK(median({3}) == 3);
  CHECK(median({5, 1, 2}) == 2);
  CHECK(median({4, 1, 3, 2}) == 3);
}

TEST_CASE("bodies take turns, warm-ups first, and each has its own median") {
  std::string order;
  const std::array<std::function<void()>, 2> bodies{
      [&] { order += 'a'; },
      [&] {
        order += 'b';
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
      }};
  const auto seconds = median_seconds(bodies, {.warm_ups = 1, .repeats = 3}, make_cpu_stream());
  CHECK(order == "abababab");
  REQUIRE(seconds.size() == 2);
  CHECK(seconds[0] < seconds[1]);
  CHECK(seconds[1] >= 0.002);
}

}  // namespace hew
