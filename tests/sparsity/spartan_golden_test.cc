// Spartan, step for step, against the numpy rendering in tests/python/spartan_reference.py.

#include <doctest/doctest.h>

#include "kernels/linear.h"
#include "tests/sparsity/regression.h"
#include "tests/support/compare.h"
#include "tests/support/device.h"
#include "tests/support/golden.h"

namespace hew {
namespace {

using nlohmann::json;
using sparsity::SparsityRule;

// 14 updates in float64 whose sums run in another order than numpy's, and a soft mask that numpy
// finds to a relative 1e-14 of its sum; each step multiplies by up to β/σ of the norms.
constexpr double kRounding = 1e-10;

SparsityRule rule_of(const json& golden, const json& recorded) {
  SparsityRule rule = test::rule_for(golden, sparsity::Method::kSpartan);
  const json& settings = recorded.at("case");
  rule.schedule.initial = settings.at("initial");
  rule.schedule.final = settings.at("final");
  rule.schedule.end = StepMark::at(settings.at("warm_up"));
  rule.sharpness = {.initial = settings.at("sharpness").at(0),
                    .final = settings.at("sharpness").at(1),
                    .end = StepMark::at(settings.at("sharpness_end"))};
  rule.freeze_scores_at = std::nullopt;
  if (!settings.at("freeze_at").is_null())
    rule.freeze_scores_at = StepMark::at(settings.at("freeze_at"));
  return rule;
}

// W·x for the first token x.
Tensor first_prediction(const sparsity::LinearWeight& weight, const Tensor& x) {
  const bool live_only = weight.storage() == sparsity::Storage::kLiveBlocks;
  const Tensor w = live_only ? weight.folded() : weight.parameter().value();
  Tensor y = Tensor::empty({1, w.size(0)}, DType::kFloat64, w.stream());
  kernels::linear_forward({.x = x.rows(0, 1), .w = w, .bias = {}, .y = y, .pre = {}}, w.stream());
  return y;
}

void follow(const json& golden, const json& recorded) {
  const Tensor x = test::matrix_of(golden.at("X"), test::test_stream());
  test::follow_trained_masks(
      golden, recorded, rule_of(golden, recorded), kRounding,
      [&](const sparsity::LinearWeight& weight, const json& step, bool frozen) {
        REQUIRE(weight.soft_mask().defined() != frozen);
        if (!frozen) {
          const auto soft = step.at("soft").get<std::vector<double>>();
          const Tensor& mask = weight.soft_mask().mask;
          HEW_CHECK_CLOSE(mask, Tensor::from(soft, mask.shape(), mask.stream()), kRounding,
                          kRounding);
        }
        const auto expected = step.at("W_x0").get<std::vector<double>>();
        const Tensor y = first_prediction(weight, x);
        HEW_CHECK_CLOSE(y, Tensor::from(expected, y.shape(), y.stream()), kRounding, kRounding);
      });
}

}  // namespace

TEST_CASE("Spartan gives the masks, soft masks and master weights of the numpy rendering") {
  const json golden = test::read_golden_json("spartan_small.json");
  test::for_each_case(golden, [&](const json& recorded) { follow(golden, recorded); });
}

}  // namespace hew
