#include "tests/sparsity/regression.h"

#include <doctest/doctest.h>

#include "optim/clip.h"
#include "tests/support/compare.h"
#include "tests/support/device.h"
#include "tests/support/golden.h"

namespace hew::test {

using sparsity::Sparsifier;
using sparsity::SparsityRule;

SparsityRule rule_for(const nlohmann::json& golden, sparsity::Method method) {
  SparsityRule rule;
  rule.match = {"W"};
  rule.method = method;
  rule.block = golden.at("block");
  sparsity::apply_method(rule);
  return rule;
}

Regression::Regression(const nlohmann::json& golden, SparsityRule rule)
    : x_(matrix_of(golden.at("X"), test_stream())),
      y_(matrix_of(golden.at("Y"), x_.stream())),
      weight_("W", matrix_of(golden.at("W"), x_.stream())),
      sparsifier_({std::move(rule)}, {&weight_}, /*transformer_blocks=*/0, /*seed=*/1),
      lr_(golden.at("adamw").at("lr")),
      clip_norm_(golden.at("adamw").at("clip_norm")) {
  sparsifier_.initialise();
  if (weight_.has_scores()) {
    weight_.scores().var.mutable_value().copy_from(matrix_of(golden.at("S"), x_.stream()));
  }
  const nlohmann::json& adamw = golden.at("adamw");
  optimizer_ = std::make_unique<optim::AdamW>(
      parameters(), optim::AdamWOptions{.beta1 = adamw.at("beta1"),
                                        .beta2 = adamw.at("beta2"),
                                        .eps = adamw.at("eps"),
                                        .weight_decay = adamw.at("weight_decay")});
}

std::vector<ag::Parameter*> Regression::parameters() {
  std::vector<ag::Parameter*> out;
  weight_.collect_parameters(out);
  return out;
}

double Regression::backward(const ag::Variable& prediction) const {
  std::vector<double> error = prediction.value().to_vector<double>();
  const std::vector<double> wanted = y_.to_vector<double>();
  const auto tokens = static_cast<double>(x_.size(0));
  double squares = 0;
  for (std::size_t i = 0; i < error.size(); ++i) {
    error[i] -= wanted[i];
    squares += error[i] * error[i];
    error[i] /= tokens;
  }
  ag::backward(prediction, Tensor::from(error, y_.shape(), y_.stream()));
  return 0.5 * squares / tokens;
}

double Regression::step(std::int64_t step) {
  for (const sparsity::StorageChange& change : sparsifier_.begin_step(step)) {
    const sparsity::PatternPtr pattern = change.weight->pattern();
    optimizer_->convert(change.weight->name(), [&pattern](const Tensor& moment) {
      return sparsity::gather(moment, *pattern);
    });
    optimizer_->set_parameters(parameters());
  }
  const ag::ForwardContext context{.training = true, .step = static_cast<std::uint64_t>(step)};
  const double loss = backward(
      weight_.product(ag::Variable(x_), ag::Variable(), kernels::Activation::kNone, context));
  for (const sparsity::PatternChange& change : sparsifier_.refresh(step)) {
    optimizer_->remap(change.weight->name(), change.source);
  }
  optimizer_->step(lr_, optim::gradient_norm(parameters(), clip_norm_).scale());
  for (ag::Parameter* parameter : parameters()) parameter->var.zero_grad();
  return loss;
}

void follow_trained_masks(
    const nlohmann::json& golden, const nlohmann::json& recorded, const SparsityRule& rule,
    double rounding,
    const std::function<void(sparsity::LinearWeight& weight, const nlohmann::json& step,
                             bool frozen)>& check) {
  Regression regression(golden, rule);
  sparsity::LinearWeight& weight = regression.weight();
  const nlohmann::json& steps = recorded.at("steps");
  for (std::size_t i = 0; i < steps.size(); ++i) {
    CAPTURE(i);
    const auto step = static_cast<std::int64_t>(i);
    const double loss = regression.step(step);
    CHECK(loss == doctest::Approx(steps[i].at("loss").get<double>()).epsilon(rounding));
    REQUIRE(regression.mask() == steps[i].at("mask").get<sparsity::MaskBytes>());
    const bool frozen = rule.freeze_scores_at.has_value() && step >= rule.freeze_scores_at->step;
    check(weight, steps[i], frozen);
  }
  const bool live_only = weight.storage() == sparsity::Storage::kLiveBlocks;
  CHECK(live_only == rule.freeze_scores_at.has_value());
  HEW_CHECK_CLOSE(live_only ? weight.folded() : weight.parameter().value(),
                  matrix_of(recorded.at("final_W"), test_stream()), rounding, rounding);
}

void for_each_case(const nlohmann::json& golden,
                   const std::function<void(const nlohmann::json& recorded)>& follow) {
  for (const auto& entry : golden.at("cases").items()) {
    const std::string& name = entry.key();
    CAPTURE(name);
    follow(entry.value());
  }
}

}  // namespace hew::test
