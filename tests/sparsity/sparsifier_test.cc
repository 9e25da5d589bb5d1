#include "sparsity/sparsifier.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "kernels/blocks.h"
#include "kernels/elementwise.h"
#include "sparsity/block_scores.h"
#include "sparsity/schedule.h"
#include "tests/sparsity/mlp_weights.h"
#include "tests/support/compare.h"
#include "tests/support/device.h"
#include "tests/support/random.h"

namespace hew::sparsity {
namespace {

using test::rule;
using test::tested_scores;
using Model = test::MlpWeights;

std::int64_t live(const Model& model) {
  std::int64_t total = 0;
  for (const LinearWeight* weight : model.weights) {
    if (weight->pattern())
      total += weight->pattern()->nnzb();
  }
  return total;
}

}  // namespace

TEST_CASE("rules select by name, the first that fits wins, and outer blocks can stay dense") {
  Model model;
  SparsityRule up = rule("blocks.*.up.weight");
  up.keep_dense_first = 1;
  SparsityRule rest = rule("blocks.*");
  rest.keep_dense_last = 1;
  Sparsifier sparsifier({up, rest}, model.weights, 3, 1);
  sparsifier.initialise();
  std::vector<std::string> sparse;
  for (const LinearWeight* weight : model.weights) {
    if (weight->storage() == Storage::kLiveBlocks)
      sparse.push_back(weight->name());
  }
  CHECK(sparse == std::vector<std::string>{"blocks.0.mlp.down.weight", "blocks.1.mlp.up.weight",
                                           "blocks.1.mlp.down.weight", "blocks.2.mlp.up.weight"});
}

TEST_CASE("a rule that selects nothing, and rules that share a top-k but differ, are errors") {
  Model model;
  SparsityRule nothing = rule("blocks.*.attn.*");
  CHECK_THROWS_WITH_AS(Sparsifier({nothing}, model.weights, 3, 1),
                       "sparsity.0.match: no linear weight is matched first by 'blocks.*.attn.*'",
                       ConfigError);
  nothing.match_origin.text = "r.yaml:3: sparsity.0.match";
  CHECK_THROWS_WITH_AS(
      Sparsifier({nothing}, model.weights, 3, 1),
      "r.yaml:3: sparsity.0.match: no linear weight is matched first by 'blocks.*.attn.*'",
      ConfigError);
  CHECK_THROWS_AS(Sparsifier({rule("blocks.*"), rule("blocks.1.*")}, model.weights, 3, 1),
                  ConfigError);
  SparsityRule a = rule("blocks.*.up.weight");
  SparsityRule b = rule("blocks.*.down.weight");
  a.scope = b.scope = Scope::kGlobal;
  b.schedule.final = 0.5;
  CHECK_THROWS_AS(Sparsifier({a, b}, model.weights, 3, 1), ConfigError);
}

TEST_CASE("a refresh keeps what stays, drops what goes and starts what comes at zero") {
  Model model;
  Sparsifier sparsifier({rule("blocks.*")}, model.weights, 3, 1);
  sparsifier.initialise();
  LinearWeight& weight = *model.weights.front();
  const PatternPtr before = weight.pattern();
  const Tensor values = weight.parameter().value().clone();
  CHECK(sparsifier.begin_step(5).empty());
  for (const LinearWeight* asked : model.weights) CHECK(asked->wants_dense_gradient());
  model.make_gradients(100);
  const Tensor dense = weight.dense_gradient();
  const std::vector<PatternChange> changes = sparsifier.refresh(5);
  REQUIRE_FALSE(changes.empty());
  for (const LinearWeight* asked : model.weights) CHECK_FALSE(asked->wants_dense_gradient());
  const PatternChange* change = nullptr;
  for (const PatternChange& c : changes) {
    if (c.weight == &weight)
      change = &c;
  }
  REQUIRE(change != nullptr);
  const Tensor& now = weight.parameter().value();
  REQUIRE(now.size(0) == static_cast<std::int64_t>(change->source.size()));
  for (std::int64_t p = 0; p < now.size(0); ++p) {
    const std::int64_t from = change->source[static_cast<std::size_t>(p)];
    const Tensor expected = from < 0 ? Tensor::zeros({1, 8, 8}, DType::kFloat64, model.stream)
                                     : values.rows(from, 1).clone();
    CHECK(test::same_bytes(now.rows(p, 1).clone(), expected));
  }
  HEW_CHECK_CLOSE(weight.parameter().var.grad(), gather(dense, *weight.pattern()), 0);
  CHECK(weight.pattern() != before);
}

TEST_CASE("from i1 on nothing grows and the count is exact") {
  for (const Regrow regrow : {Regrow::kNone, Regrow::kSwap, Regrow::kUnion}) {
    for (const Score score : tested_scores()) {
      for (const Growth growth : {Growth::kGradient, Growth::kRandom}) {
        Model model;
        SparsityRule r = rule("blocks.*");
        r.regrow = regrow;
        r.score = score;
        r.growth = growth;
        Sparsifier sparsifier({r}, model.weights, 3, 1);
        sparsifier.initialise();
        for (std::int64_t step = 0; step <= 25; ++step) {
          sparsifier.begin_step(step);
          model.make_gradients(static_cast<std::uint64_t>(1000 * step));
          sparsifier.refresh(step);
          const std::int64_t wanted = live_blocks(9, sparsity_at(r.schedule, step));
          if (regrow != Regrow::kUnion && refreshes_at(r, step))
            CHECK(live(model) == 6 * wanted);
        }
        CHECK(live(model) == 6 * live_blocks(9, 0.7));
      }
    }
  }
}

TEST_CASE("a matrix learns faster the fewer of its blocks live, also right after a refresh") {
  Model model;
  SparsityRule power = rule("blocks.0.*");
  power.lr_power = 0.5;
  Sparsifier sparsifier({power, rule("blocks.*")}, model.weights, 3, 1);
  sparsifier.initialise();
  const auto check = [&] {
    for (const Sparsifier::Target& target : sparsifier.targets()) {
      const BsrPattern& pattern = *target.weight->pattern();
      const double density =
          static_cast<double>(pattern.nnzb()) / static_cast<double>(pattern.grid().blocks());
      CHECK(target.weight->parameter().lr_factor ==
            doctest::Approx(target.rule == 0 ? 1 / std::sqrt(density) : 1).epsilon(1e-12));
    }
  };
  sparsifier.begin_step(4);
  check();
  const std::int64_t before = live(model);
  sparsifier.begin_step(5);
  model.make_gradients(100);
  sparsifier.refresh(5);
  CHECK(live(model) != before);
  check();
}

TEST_CASE("a global top-k spends blocks where scores are high, and empties no matrix") {
  Model model;
  Tensor& loud = model.weights[2]->parameter().var.mutable_value();
  kernels::scale(100, loud, model.stream);
  SparsityRule r = rule("blocks.*");
  r.scope = Scope::kGlobal;
  r.regrow = Regrow::kNone;
  r.growth = Growth::kNone;
  Sparsifier sparsifier({r}, model.weights, 3, 1);
  sparsifier.initialise();
  for (std::int64_t step = 0; step <= 20; ++step) {
    sparsifier.begin_step(step);
    model.make_gradients(7);
    sparsifier.refresh(step);
  }
  CHECK(live(model) == live_blocks(54, 0.7));
  CHECK(model.weights[2]->pattern()->nnzb() == 9);
  for (const LinearWeight* weight : model.weights) CHECK(weight->pattern()->nnzb() >= 1);
}

TEST_CASE("a supermask follows its scores, and freezes into live blocks") {
  Model model;
  SparsityRule r = rule("blocks.*");
  r.method = Method::kSupermask;
  apply_method(r);
  r.schedule.final = 0.5;
  r.freeze_scores_at = StepMark::at(3);
  Sparsifier sparsifier({r}, model.weights, 3, 1);
  sparsifier.initialise();
  LinearWeight& weight = *model.weights.front();
  REQUIRE(weight.storage() == Storage::kMaster);
  CHECK(weight.pattern()->nnzb() == kept_blocks(9, 0.5));
  weight.scores().var.mutable_value().copy_from(
      Tensor::from(std::vector<double>{0, 1, 2, 3, 4, 5, 6, 7, 8}, {3, 3}, model.stream));
  CHECK(sparsifier.begin_step(1).empty());
  CHECK(weight.pattern()->mask() == MaskBytes{0, 0, 0, 0, 1, 1, 1, 1, 1});
  const Tensor folded = weight.folded();
  const std::vector<StorageChange> changes = sparsifier.begin_step(3);
  CHECK(changes.size() == 6);
  CHECK(weight.storage() == Storage::kLiveBlocks);
  CHECK_FALSE(weight.has_scores());
  HEW_CHECK_CLOSE(weight.folded(), folded, 0);
  CHECK(sparsifier.begin_step(4).empty());
}

TEST_CASE("a static mask is random, of the wanted size, and never moves") {
  Model model;
  SparsityRule r = rule("blocks.*");
  r.method = Method::kStatic;
  apply_method(r);
  r.schedule.initial = r.schedule.final;
  Sparsifier sparsifier({r}, model.weights, 3, 1);
  sparsifier.initialise();
  std::vector<MaskBytes> masks;
  for (const LinearWeight* weight : model.weights) {
    CHECK(weight->storage() == Storage::kLiveBlocks);
    CHECK(weight->pattern()->nnzb() == live_blocks(9, 0.7));
    masks.push_back(weight->pattern()->mask());
  }
  CHECK(masks[0] != masks[1]);
  for (std::int64_t step = 0; step <= 25; ++step) {
    CHECK(sparsifier.begin_step(step).empty());
    CHECK_FALSE(model.weights.front()->wants_dense_gradient());
    model.make_gradients(7);
    CHECK(sparsifier.refresh(step).empty());
  }
  for (std::size_t i = 0; i < masks.size(); ++i)
    CHECK(model.weights[i]->pattern()->mask() == masks[i]);
}

TEST_CASE("masks that training moves can be folded in at any time") {
  for (const Method method : {Method::kSupermask, Method::kSpartan, Method::kBlast}) {
    Model model;
    SparsityRule r = rule("blocks.*");
    r.method = method;
    apply_method(r);
    r.schedule.final = 0.5;
    Sparsifier sparsifier({r}, model.weights, 3, 1);
    sparsifier.initialise();
    sparsifier.select_trained_masks(50);
    const LinearWeight& weight = *model.weights.back();
    const Tensor folded = weight.folded();
    CHECK(sparsifier.fold_masks().size() == (method == Method::kBlast ? 0 : 6));
    CHECK(weight.storage() == Storage::kLiveBlocks);
    HEW_CHECK_CLOSE(weight.folded(), folded, 0);
    CHECK(sparsifier.fold_masks().empty());
  }
}

TEST_CASE("a soft mask follows the weights, and freezes into live blocks that compute the same") {
  Model model;
  SparsityRule r = rule("blocks.*");
  r.method = Method::kSpartan;
  apply_method(r);
  r.schedule.initial = 0;
  r.schedule.final = 0.7;
  r.schedule.end = StepMark::at(10);
  r.sharpness.end = StepMark::at(20);
  r.freeze_scores_at = StepMark::at(20);
  Sparsifier sparsifier({r}, model.weights, 3, 1);
  sparsifier.initialise();
  LinearWeight& weight = *model.weights.front();
  REQUIRE(weight.storage() == Storage::kMaster);
  CHECK(sparsifier.trains_mask(sparsifier.targets().front(), 0));  // before its first soft mask too
  CHECK(sparsifier.begin_step(0).empty());
  CHECK(weight.pattern()->nnzb() == 9);
  HEW_CHECK_CLOSE(weight.folded(), weight.parameter().value(), 0);
  CHECK(sparsifier.begin_step(10).empty());
  CHECK(weight.pattern()->nnzb() == live_blocks(9, 0.7));
  CHECK(sparsifier.trains_mask(sparsifier.targets().front(), 19));
  CHECK_FALSE(sparsifier.trains_mask(sparsifier.targets().front(), 20));
  CHECK(weight.soft_mask().defined());
  CHECK_FALSE(weight.has_scores());
  // A dead block that grows comes back at the next selection.
  const MaskBytes before = weight.pattern()->mask();
  const auto dead = static_cast<std::size_t>(std::ranges::find(before, 0) - before.begin());
  std::vector<double> factors(9, 1.0);
  factors[dead] = 100;
  Tensor& master = weight.parameter().var.mutable_value();
  kernels::blend_blocks({.x = master,
                         .a = Tensor::from(factors, {3, 3}, model.stream),
                         .y = {},
                         .b = {},
                         .block = 8,
                         .out = master},
                        model.stream);
  sparsifier.select_trained_masks(20);
  CHECK(weight.pattern()->mask()[dead] == 1);
  const Tensor folded = weight.folded();
  CHECK(sparsifier.begin_step(20).size() == 6);
  CHECK(weight.storage() == Storage::kLiveBlocks);
  CHECK_FALSE(weight.soft_mask().defined());
  HEW_CHECK_CLOSE(weight.folded(), folded, 0);
  CHECK(sparsifier.begin_step(21).empty());
}

TEST_CASE("a pattern from a mask on the device is the one from the host's") {
  const Stream& stream = test::test_stream();
  const BlockGrid grid{.rows = 37, .cols = 60, .block = 8};
  MaskBytes mask(static_cast<std::size_t>(grid.blocks()));
  for (std::size_t i = 0; i < mask.size(); ++i) mask[i] = i % 3 == 1 || i > 30 ? 1 : 0;
  const BsrPattern host(grid, mask, stream);
  const BsrPattern device(grid, Tensor::from(mask, {grid.blocks()}, stream), host.nnzb());
  CHECK(device.nnzb() == host.nnzb());
  CHECK(device.live_blocks() == host.live_blocks());
  CHECK(device.mask() == mask);
  CHECK(device.crow_indices() == host.crow_indices());
  CHECK(device.col_indices() == host.col_indices());
  const Tensor dense = test::random_tensor({37, 60}, DType::kFloat64, stream, 1);
  CHECK(
      test::same_bytes(scatter(gather(dense, device), device), scatter(gather(dense, host), host)));
}

TEST_CASE("starting scores are kaiming-uniform over the block grid") {
  const Stream& stream = test::test_stream();
  const BlockGrid grid{.rows = 512, .cols = 200, .block = 8};
  const Tensor scores = initial_scores(grid, 5, Tensor::zeros({1}, DType::kFloat64, stream));
  const double bound = 1 / std::sqrt(25.0);
  double sum = 0;
  for (const double s : scores.to_vector<double>()) {
    REQUIRE(std::abs(s) <= bound);
    sum += s;
  }
  // Five standard errors of the mean of 1600 uniforms on ±0.2.
  CHECK(std::abs(sum / 1600) <= 5 * bound / std::sqrt(3.0) / 40);
}

}  // namespace hew::sparsity
