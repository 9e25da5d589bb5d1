#include "train/dry_run.h"

#include <doctest/doctest.h>

#include "core/error.h"

namespace hew::train {
namespace {

const std::string kRecipes = HEW_SOURCE_DIR "/recipes/";

std::string report_of(const std::string& recipe, std::vector<std::string> overrides = {}) {
  overrides.insert(overrides.begin(), "model.vocab=1024");
  return dry_run_report(load_recipe(kRecipes + recipe + ".yaml", overrides), /*ranks=*/2,
                        make_cpu_stream());
}

// The line that starts with `label`, its runs of spaces made one.
std::string line_of(const std::string& report, const std::string& label) {
  const std::size_t begin = report.find("\n" + label) + 1;
  std::string line;
  for (const char c : report.substr(begin, report.find('\n', begin) - begin)) {
    if (c != ' ' || !line.ends_with(' '))
      line += c;
  }
  return line;
}

}  // namespace

TEST_CASE("real-size recipes are reported without the memory or the device they need") {
  CHECK(line_of(report_of("gpt2-124m-dense", {"model.vocab=50257"}), "parameters") ==
        "parameters 124439808 in full");
  const std::string xl = report_of("gpt2-xl-blast", {"train.steps=100", "optim.schedule.warmup=0"});
  // 6400 by 1600 in blocks of 64 is 100 by 25; 80 % of 2500 die between 25 % and 75 %.
  CHECK(line_of(xl, "blocks.47.mlp.up.weight") ==
        "blocks.47.mlp.up.weight [6400, 1600] 10240000 64 2500 2500 2500 750 500 500");
  CHECK_FALSE(report_of("llama-1b-blast", {"train.steps=100", "optim.schedule.warmup=0"}).empty());
}

TEST_CASE("FLOPs of a step fall with the density of what is sparse") {
  // A token costs 6 FLOPs a weight of its matrices and of the tied head, and 14 a channel and
  // visible token in the attention of a layer; 80 % of the MLPs' blocks are dead in the end.
  const double tokens = 8.0 * 128;  // a step of the tiny recipes
  const double mlp = 6 * 4 * 2.0 * 256 * 1024;
  const double rest = 6 * (4 * 4.0 * 256 * 256 + 1024.0 * 256) + 4 * 14 * 64.5 * 256;
  const auto expected = [&](double density) {
    return fmt::format("{:.4e}", tokens * (density * mlp + rest));
  };
  const std::string dense = line_of(report_of("gpt-tiny-dense"), "FLOPs a step");
  CHECK(dense ==
        fmt::format("FLOPs a step {} at step 0, {} at the last", expected(1), expected(1)));
  const std::string sparse = line_of(report_of("gpt-tiny-blast"), "FLOPs a step");
  constexpr double kLive = 51.0 / 256;  // of 32 by 8 blocks, round(0.8 · 256) are dead
  CHECK(sparse ==
        fmt::format("FLOPs a step {} at step 0, {} at the last", expected(1), expected(kLive)));
}

TEST_CASE("ranks that cannot share the batch are refused") {
  const Recipe recipe = load_recipe(kRecipes + "gpt-tiny-dense.yaml", {"model.vocab=1024"});
  CHECK_THROWS_AS(dry_run_report(recipe, /*ranks=*/3, make_cpu_stream()), ConfigError);
}

}  // namespace hew::train
