// Masks that are chosen while backward goes on, and what is held of dense gradients meanwhile.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "core/error.h"
#include "kernels/elementwise.h"
#include "sparsity/sparsifier.h"
#include "tests/sparsity/mlp_weights.h"
#include "tests/support/compare.h"

namespace hew::sparsity {
namespace {

using test::rule;
using test::tested_scores;
using Model = test::MlpWeights;

// Tells of dense gradients in the order in which backward would complete them.
void finish_gradients(Sparsifier& sparsifier, const Model& model, std::int64_t step) {
  for (auto weight = model.weights.rbegin(); weight != model.weights.rend(); ++weight) {
    if ((*weight)->wants_dense_gradient()) {
      CHECK(sparsifier.dense_gradient_weight((*weight)->dense_gradient_key()) == *weight);
      sparsifier.dense_gradient_done(**weight, step);
    }
  }
}

// The first weight in which two models differ, or in whose change two refreshes do, or "".
std::string first_difference(const Model& a, const std::vector<PatternChange>& changes_of_a,
                             const Model& b, const std::vector<PatternChange>& changes_of_b) {
  if (changes_of_a.size() != changes_of_b.size())
    return "changes";
  for (std::size_t i = 0; i < changes_of_a.size(); ++i) {
    const PatternChange& change = changes_of_a[i];
    if (change.weight->name() != changes_of_b[i].weight->name() ||
        change.source != changes_of_b[i].source)
      return change.weight->name() + " (change)";
  }
  for (std::size_t i = 0; i < a.weights.size(); ++i) {
    const ag::Parameter& left = a.weights[i]->parameter();
    const ag::Parameter& right = b.weights[i]->parameter();
    if (a.weights[i]->pattern()->mask() != b.weights[i]->pattern()->mask())
      return left.name + " (mask)";
    if (!test::same_bytes(left.value(), right.value()))
      return left.name;
    if (!test::same_bytes(left.var.grad(), right.var.grad()))
      return left.name + " (gradient)";
  }
  return "";
}

// Trains the same model twice, choosing masks as gradients come, and afterwards. `plant` may spoil
// what the first is given. Returns the first difference.
std::string ahead_against_afterwards(const SparsityRule& r,
                                     const std::function<void(Model&)>& plant = {}) {
  Model early;
  Model late;
  Sparsifier ahead({r}, early.weights, 3, 1);
  Sparsifier afterwards({r}, late.weights, 3, 1);
  ahead.initialise();
  afterwards.initialise();
  for (std::int64_t step = 0; step <= 20; ++step) {
    ahead.begin_step(step);
    afterwards.begin_step(step);
    early.make_gradients(static_cast<std::uint64_t>(1000 * step));
    late.make_gradients(static_cast<std::uint64_t>(1000 * step));
    if (plant)
      plant(early);
    finish_gradients(ahead, early, step);
    const std::vector<PatternChange> changes = ahead.refresh(step);
    const std::string difference = first_difference(early, changes, late, afterwards.refresh(step));
    if (!difference.empty())
      return fmt::format("step {}: {}", step, difference);
  }
  return "";
}

}  // namespace

TEST_CASE("masks chosen as gradients come are those chosen afterwards, to the last byte") {
  for (const Regrow regrow : {Regrow::kNone, Regrow::kSwap, Regrow::kUnion}) {
    for (const Score score : tested_scores()) {
      for (const Growth growth : {Growth::kNone, Growth::kGradient, Growth::kRandom}) {
        for (const Scope scope : {Scope::kMatrix, Scope::kGlobal}) {
          for (const Weights weights : {Weights::kLive, Weights::kDense}) {
            SparsityRule r = rule("blocks.*");
            r.regrow = regrow;
            r.score = score;
            r.growth = growth;
            r.scope = scope;
            r.weights = weights;
            CHECK(ahead_against_afterwards(r) == "");
          }
        }
      }
    }
  }
  SparsityRule denser = rule("blocks.*");
  denser.schedule.initial = 0.8;
  denser.schedule.final = 0.3;
  CHECK(ahead_against_afterwards(denser) == "");
}

TEST_CASE("a wrong dense gradient is seen in the masks, or in what is kept of it") {
  const SparsityRule r = rule("blocks.*");
  CHECK(ahead_against_afterwards(r, [](Model& model) {
          LinearWeight& weight = *model.weights[3];
          if (weight.wants_dense_gradient())
            kernels::scale(1.001, weight.dense_gradient(), model.stream);
        }) == "step 5: blocks.1.mlp.down.weight (gradient)");
  const std::string difference = ahead_against_afterwards(r, [](Model& model) {
    LinearWeight& weight = *model.weights[3];
    if (weight.wants_dense_gradient())
      kernels::fill(0, weight.dense_gradient(), model.stream);
  });
  CHECK(difference == "step 0: changes");
}

TEST_CASE("a dense gradient that is NaN is left whole, and refresh says so") {
  Model model;
  Sparsifier sparsifier({rule("blocks.*")}, model.weights, 3, 1);
  sparsifier.initialise();
  sparsifier.begin_step(5);
  model.make_gradients(1);
  kernels::fill(std::nan(""), model.weights[2]->dense_gradient(), model.stream);
  finish_gradients(sparsifier, model, 5);
  CHECK_THROWS_WITH_AS(sparsifier.refresh(5), doctest::Contains("block 0 is NaN"), Error);
}

namespace {

// A chain of block-sparse layers, and what one refresh step over it holds at most.
struct Held {
  std::int64_t gradients = 0;  // whole dense ones at a time
  std::int64_t after = 0;      // bytes that backward leaves behind
};

Held hold_through_refresh(const SparsityRule& r, bool tell) {
  constexpr std::int64_t kWidth = 256;
  const Stream cpu = make_cpu_stream();
  std::vector<std::unique_ptr<LinearWeight>> owned;
  std::vector<LinearWeight*> weights;
  for (int i = 0; i < 8; ++i) {
    owned.push_back(std::make_unique<LinearWeight>(
        fmt::format("blocks.{}.weight", i),
        test::random_tensor({kWidth, kWidth}, DType::kFloat32, cpu, owned.size() + 1)));
    weights.push_back(owned.back().get());
  }
  Sparsifier sparsifier({r}, weights, 8, 1);
  sparsifier.initialise();
  sparsifier.begin_step(5);
  const std::int64_t before = cpu.allocator->stats().in_use;
  ag::Variable x(test::random_tensor({2, kWidth}, DType::kFloat32, cpu, 9));
  ag::ForwardContext context;
  context.training = true;
  for (const LinearWeight* weight : weights)
    x = weight->product(x, ag::Variable(), kernels::Activation::kNone, context);
  Held held;
  ag::backward(x, Tensor(), {.leaf_done = [&](const void* leaf) {
                 if (LinearWeight* weight = sparsifier.dense_gradient_weight(leaf)) {
                   held.gradients = std::max(
                       held.gradients, std::count_if(weights.begin(), weights.end(), [](auto* w) {
                         return w->dense_gradient().defined();
                       }));
                   if (tell)
                     sparsifier.dense_gradient_done(*weight, 5);
                 }
               }});
  held.after = cpu.allocator->stats().in_use - before;
  CHECK_FALSE(sparsifier.refresh(5).empty());
  return held;
}

}  // namespace

TEST_CASE("dense gradients are not all held at a time") {
  constexpr std::int64_t kGradient = 256 * 256 * 4;
  SparsityRule r = rule("blocks.*");
  r.block = 32;
  r.schedule.initial = r.schedule.final = 0.9;
  r.schedule.kind = ScheduleKind::kConstant;
  const Held all = hold_through_refresh(r, /*tell=*/false);
  const Held one = hold_through_refresh(r, /*tell=*/true);
  CHECK(all.gradients == 8);
  CHECK(one.gradients == 1);
  // The blocks that grow are at most as many as live.
  CHECK(one.after <= all.after - 8 * kGradient + 8 * kGradient / 10);
}

}  // namespace hew::sparsity
