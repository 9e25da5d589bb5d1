#include "train/run_log.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <fstream>

#include "tests/train/tiny_run.h"
#include "train/metrics.h"

namespace hew::test {
namespace {

std::int64_t lines_with(const std::filesystem::path& file, const std::string& text) {
  std::ifstream in(file);
  std::int64_t count = 0;
  for (std::string line; std::getline(in, line);) {
    count += line.find(text) != std::string::npos ? 1 : 0;
  }
  return count;
}

// Standard output goes into a pipe that is full, and that nobody reads.
class Unread {
 public:
  Unread() : kept_(::dup(STDOUT_FILENO)) {
    REQUIRE(::pipe2(ends_.data(), O_NONBLOCK) == 0);
    const std::array<char, 4096> page{};
    while (::write(ends_[1], page.data(), page.size()) > 0) {
    }
    REQUIRE(::fcntl(ends_[1], F_SETFL, 0) == 0);
    std::fflush(stdout);
    REQUIRE(::dup2(ends_[1], STDOUT_FILENO) == STDOUT_FILENO);
  }
  ~Unread() {
    ::dup2(kept_, STDOUT_FILENO);
    for (const int fd : {kept_, ends_[0], ends_[1]}) ::close(fd);
  }
  Unread(const Unread&) = delete;
  Unread& operator=(const Unread&) = delete;

 private:
  int kept_;
  std::array<int, 2> ends_{};
};

}  // namespace

TEST_CASE("a terminal that nobody reads any more holds up no run, and the log has all lines") {
  const Scratch scratch;
  const auto start = std::chrono::steady_clock::now();
  {
    const Unread unread;
    train::Console console(scratch / "train.log");
    for (int i = 0; i < 20; ++i) console.say(fmt::format("line {}", i));
  }
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(10));
  CHECK(lines_with(scratch / "train.log", "line ") == 20);
}

TEST_CASE("metrics go on after the last whole line") {
  const Scratch scratch;
  const std::filesystem::path path = scratch / "metrics.jsonl";
  const auto after = [&path](const std::string& before, std::int64_t keep_bytes) {
    std::ofstream(path) << before;
    train::MetricsFile(path, keep_bytes).write({{"step", 3}});
    std::ifstream in(path);
    return std::string(std::istreambuf_iterator<char>(in), {});
  };
  const std::string one = "{\"step\":1}\n";
  const std::string two = "{\"step\":2}\n";
  const std::string three = "{\"step\":3}\n";
  CHECK(after(one + two, 11) == one + three);
  CHECK(after(one + two, 22) == one + two + three);
  CHECK(after(one + "{\"st", 22) == one + three);
  CHECK(after("{\"st", 22) == three);
  CHECK(after("", 22) == three);
}

TEST_CASE("the time that is left is said for any number of steps") {
  const auto left = [](double seconds) {
    const std::string text = to_string(train::ProgressLine{.seconds_left = seconds});
    return text.substr(text.rfind("  ") + 2);
  };
  CHECK(left(65) == "1:05 left");
  CHECK(left(3600.0 * 999999) == "999999:00:00 left");
  CHECK(left(9.2e18) == "3e+15 h left");
}

TEST_CASE("the log says once what masks that train cost, by any method, and no more once frozen") {
  const std::string cost = "masks that train need the whole gradients of 4 weights: ";
  dist::LocalCommunicator alone;
  const Scratch scratch;
  const TinyRuns runs(scratch.path(), alone);
  for (const std::string method : {"supermask", "spartan", "blast"}) {
    CAPTURE(method);
    std::vector<std::string> overrides = sparsity_overrides(method);
    overrides.insert(overrides.end(), {"train.steps=10", "train.eval_every=0"});
    const train::Recipe recipe = runs.recipe(method, overrides);
    const std::filesystem::path log = runs.directory(method) / "train.log";
    const std::int64_t wanted = method == "blast" ? 0 : 1;
    run_training(recipe, alone, {.stop_after = 7});  // masks freeze in the next step
    CHECK(lines_with(log, cost) == wanted);
    run_training(recipe, alone, {.resume = true, .stop_after = 8});
    CHECK(lines_with(log, cost) == wanted);
  }
}

}  // namespace hew::test
