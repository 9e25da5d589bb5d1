// Supermask, step for step, against the numpy rendering in tests/python/blast_reference.py.

#include <doctest/doctest.h>

#include "sparsity/selection.h"
#include "tests/sparsity/regression.h"
#include "tests/support/compare.h"
#include "tests/support/golden.h"

namespace hew {
namespace {

using nlohmann::json;
using sparsity::MaskBytes;
using sparsity::SparsityRule;

// 12 updates in float64 whose sums run in another order than numpy's; of the largest value.
constexpr double kRounding = 1e-12;

void follow(const json& golden, const json& recorded) {
  SparsityRule rule = test::rule_for(golden, sparsity::Method::kSupermask);
  rule.schedule.initial = recorded.at("sparsity");
  rule.schedule.final = recorded.at("sparsity");
  if (!recorded.at("freeze_at").is_null()) {
    rule.freeze_scores_at = StepMark::at(recorded.at("freeze_at"));
  }
  test::Regression regression(golden, rule);
  sparsity::LinearWeight& weight = regression.weight();
  const json& steps = recorded.at("steps");
  for (std::size_t i = 0; i < steps.size(); ++i) {
    CAPTURE(i);
    const auto step = static_cast<std::int64_t>(i);
    const double loss = regression.step(step);
    CHECK(loss == doctest::Approx(steps[i].at("loss").get<double>()).epsilon(kRounding));
    REQUIRE(regression.mask() == steps[i].at("mask").get<MaskBytes>());
    const bool frozen = rule.freeze_scores_at.has_value() && step >= rule.freeze_scores_at->step;
    REQUIRE(weight.has_scores() != frozen);
    if (!frozen) {
      HEW_CHECK_CLOSE(weight.scores().value(), test::matrix_of(steps[i].at("S"), make_cpu_stream()),
                      kRounding, kRounding);
    }
  }
  const bool live_only = weight.storage() == sparsity::Storage::kLiveBlocks;
  CHECK(live_only == rule.freeze_scores_at.has_value());
  const Tensor expected = test::matrix_of(recorded.at("final_W"), make_cpu_stream());
  HEW_CHECK_CLOSE(live_only ? weight.folded() : weight.parameter().value(), expected, kRounding,
                  kRounding);
}

}  // namespace

TEST_CASE("supermask gives the masks, scores and master weights of the numpy rendering") {
  const json golden = test::read_golden_json("supermask_small.json");
  for (const auto& entry : golden.at("cases").items()) {
    const std::string& name = entry.key();
    CAPTURE(name);
    follow(golden, entry.value());
  }
}

TEST_CASE("a supermask of a 3072×768 matrix keeps as many blocks as SuperBlock's") {
  const json golden = test::read_golden_json("supermask_small.json");
  for (const json& row : golden.at("kept_blocks_3072x768")) {
    CAPTURE(row.dump());
    CHECK(sparsity::kept_blocks(row.at("blocks"), row.at("sparsity")) == row.at("kept"));
  }
}

}  // namespace hew
