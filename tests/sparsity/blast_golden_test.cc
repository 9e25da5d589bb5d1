// Prune-and-grow, step for step, against the numpy rendering in tests/python/blast_reference.py.

#include <doctest/doctest.h>

#include "sparsity/schedule.h"
#include "sparsity/selection.h"
#include "tests/sparsity/regression.h"
#include "tests/support/compare.h"
#include "tests/support/golden.h"

namespace hew {
namespace {

using nlohmann::json;
using sparsity::MaskBytes;
using sparsity::SparsityRule;

// 24 updates in float64 whose sums run in another order than numpy's; of the largest value.
constexpr double kRounding = 1e-12;

SparsityRule rule_of(const json& golden, const json& recorded) {
  SparsityRule rule = test::rule_for(golden, sparsity::Method::kBlast);
  rule.schedule.initial = recorded.at("initial");
  rule.schedule.final = recorded.at("final");
  rule.schedule.begin = StepMark::at(recorded.at("begin"));
  rule.schedule.end = StepMark::at(recorded.at("end"));
  rule.every = recorded.at("every");
  rule.swap_fraction = recorded.at("swap_fraction");
  rule.regrow = *parse_named<sparsity::Regrow>(recorded.at("regrow").get<std::string>());
  rule.growth = *parse_named<sparsity::Growth>(recorded.at("growth").get<std::string>());
  return rule;
}

void follow(const json& golden, const json& recorded) {
  const SparsityRule rule = rule_of(golden, recorded.at("rule"));
  test::Regression regression(golden, rule);
  MaskBytes mask = recorded.at("initial_mask");
  CHECK(regression.mask() == mask);

  const auto blocks = static_cast<std::int64_t>(mask.size());
  const json& losses = recorded.at("losses");
  auto refresh = recorded.at("refreshes").begin();
  for (std::size_t i = 0; i < losses.size(); ++i) {
    const auto step = static_cast<std::int64_t>(i);
    CAPTURE(step);
    CHECK(regression.step(step) == doctest::Approx(losses[i].get<double>()).epsilon(kRounding));
    const bool refreshed = refresh != recorded.at("refreshes").end() && refresh->at("step") == step;
    CHECK(sparsity::refreshes_at(rule, step) == refreshed);
    if (refreshed) {
      CHECK(sparsity::live_blocks(blocks, sparsity::sparsity_at(rule.schedule, step)) ==
            refresh->at("wanted"));
      mask = refresh->at("mask").get<MaskBytes>();
      ++refresh;
    }
    REQUIRE(regression.mask() == mask);
  }
  CHECK(refresh == recorded.at("refreshes").end());
  const Tensor expected = test::matrix_of(recorded.at("final_W"), make_cpu_stream());
  HEW_CHECK_CLOSE(regression.weight().folded(), expected, kRounding, kRounding);
}

}  // namespace

TEST_CASE("prune-and-grow gives the masks and weights of the numpy rendering") {
  const json golden = test::read_golden_json("blast_small.json");
  test::for_each_case(golden, [&](const json& recorded) { follow(golden, recorded); });
}

TEST_CASE("the recorded cases tell the regrow rules and fill orders apart") {
  const json cases = test::read_golden_json("blast_small.json").at("cases");
  for (const auto& [a, one] : cases.items()) {
    for (const auto& [b, other] : cases.items()) {
      if (a != b)
        CHECK(one.at("refreshes") != other.at("refreshes"));
    }
  }
}

}  // namespace hew
