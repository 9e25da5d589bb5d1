// Supermask, step for step, against the numpy rendering in tests/python/blast_reference.py.

#include <doctest/doctest.h>

#include "sparsity/selection.h"
#include "tests/sparsity/regression.h"
#include "tests/support/compare.h"
#include "tests/support/golden.h"

namespace hew {
namespace {

using nlohmann::json;
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
  test::follow_trained_masks(golden, recorded, rule, kRounding,
                             [](sparsity::LinearWeight& weight, const json& step, bool frozen) {
                               REQUIRE(weight.has_scores() != frozen);
                               if (!frozen) {
                                 HEW_CHECK_CLOSE(weight.scores().value(),
                                                 test::matrix_of(step.at("S"), make_cpu_stream()),
                                                 kRounding, kRounding);
                               }
                             });
}

}  // namespace

TEST_CASE("supermask gives the masks, scores and master weights of the numpy rendering") {
  const json golden = test::read_golden_json("supermask_small.json");
  test::for_each_case(golden, [&](const json& recorded) { follow(golden, recorded); });
}

TEST_CASE("a supermask of a 3072×768 matrix keeps as many blocks as SuperBlock's") {
  const json golden = test::read_golden_json("supermask_small.json");
  for (const json& row : golden.at("kept_blocks_3072x768")) {
    CAPTURE(row.dump());
    CHECK(sparsity::kept_blocks(row.at("blocks"), row.at("sparsity")) == row.at("kept"));
  }
}

}  // namespace hew
