// The vision transformer under masks: gradients of weights and scores, and how many blocks stay.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "sparsity/selection.h"
#include "tests/layers/golden_vit.h"
#include "tests/support/compare.h"

namespace hew {
namespace {

using layers::ModelConfig;
using layers::VisionTransformer;
using sparsity::LinearWeight;
using test::GoldenVit;
using test::ModelPass;

}  // namespace

TEST_CASE("under a supermask, every gradient is that of methods.md, for dead blocks too") {
  for (const std::string& pooling : test::kPoolings) {
    CAPTURE(pooling);
    const GoldenVit golden(pooling);
    const auto masked = golden.model(DType::kFloat64);
    const auto folded = golden.model(DType::kFloat64);
    test::make_sparse(*masked, test::rule_for_all(sparsity::Method::kSupermask, 0.6));
    const std::vector<LinearWeight*> weights = masked->linear_weights();
    const std::vector<LinearWeight*> twins = folded->linear_weights();
    for (std::size_t i = 0; i < weights.size(); ++i)
      twins[i]->parameter().var.mutable_value().copy_from(weights[i]->folded());
    const ModelPass pass = golden.pass(*masked);
    const ModelPass dense = golden.pass(*folded);
    CHECK(test::values_of(pass.loss)[0] ==
          doctest::Approx(test::values_of(dense.loss)[0]).epsilon(1e-12));
    for (const LinearWeight* weight : weights) {
      const std::string& name = weight->name();
      CAPTURE(name);
      const sparsity::BlockGrid& grid = weight->pattern()->grid();
      const sparsity::MaskBytes mask = weight->pattern()->mask();
      CHECK(weight->pattern()->nnzb() == sparsity::kept_blocks(grid.blocks(), 0.6));
      const std::vector<double> w = test::values_of(weight->parameter().value());
      const std::vector<double> g = test::values_of(dense.gradients.at(name));  // ∂L/∂(W ⊙ mask)
      const std::vector<double> dw = test::values_of(pass.gradients.at(name));
      const std::vector<double> ds = test::values_of(pass.gradients.at(name + ".scores"));
      std::vector<double> wanted(ds.size(), 0.0);
      double worst = 0;
      for (std::int64_t i = 0; i < std::ssize(w); ++i) {
        const auto at = static_cast<std::size_t>(i);
        const std::int64_t row = i / grid.cols / grid.block;
        const std::int64_t col = i % grid.cols / grid.block;
        const auto block = static_cast<std::size_t>(row * grid.block_cols() + col);
        wanted[block] += g[at] * w[at];
        if (mask[block] == 0)
          REQUIRE(dw[at] == 0);
        else
          worst = std::max(worst, std::abs(dw[at] - g[at]));
      }
      CHECK(worst <= 1e-12);
      bool dead_moves = false;  // a block whose results all end in dead blocks has a gradient of 0
      for (std::size_t block = 0; block < ds.size(); ++block) {
        CHECK(ds[block] == doctest::Approx(wanted[block]).epsilon(1e-9).scale(1e-3));
        dead_moves = dead_moves || (mask[block] == 0 && ds[block] != 0);
      }
      CHECK(dead_moves);
    }
  }
}

// The mask as a number of each block: 1 where live, 0 where dead. The loss is smooth in it.
TEST_CASE("a score's gradient is the slope of the loss in its block's share of the product") {
  const GoldenVit golden("cls");
  const auto masked = golden.model(DType::kFloat64);
  test::make_sparse(*masked, test::rule_for_all(sparsity::Method::kSupermask, 0.5));
  const ModelPass pass = golden.pass(*masked);
  for (const char* name : {"head.weight", "blocks.1.attn.out.weight", "blocks.0.mlp.down.weight",
                           "patch_embedding.weight"}) {
    CAPTURE(name);
    const std::vector<LinearWeight*> weights = masked->linear_weights();
    const LinearWeight& weight =
        **std::ranges::find_if(weights, [&](const LinearWeight* w) { return w->name() == name; });
    const sparsity::BlockGrid& grid = weight.pattern()->grid();
    const std::vector<double> ds =
        test::values_of(pass.gradients.at(std::string(name) + ".scores"));
    const std::vector<double> w = test::values_of(weight.parameter().value());
    const auto loss_at = [&](std::int64_t block, double t) {
      const auto dense = golden.model(DType::kFloat64);
      const std::vector<LinearWeight*> twins = dense->linear_weights();
      for (std::size_t i = 0; i < weights.size(); ++i) {
        std::vector<double> values = test::values_of(weights[i]->folded());
        for (std::int64_t e = 0; weights[i]->name() == name && e < std::ssize(values); ++e) {
          const std::int64_t own =
              e / grid.cols / grid.block * grid.block_cols() + e % grid.cols / grid.block;
          if (own == block)
            values[static_cast<std::size_t>(e)] += t * w[static_cast<std::size_t>(e)];
        }
        Tensor& target = twins[i]->parameter().var.mutable_value();
        target.copy_from(Tensor::from(values, target.shape(), test::test_stream()));
      }
      ag::ForwardContext context;
      return test::values_of(dense
                                 ->loss(golden.read("images"), golden.read("targets"),
                                        {.smoothing = golden.smoothing()}, context)
                                 .value())[0];
    };
    constexpr double kStep = 1e-4;
    for (std::int64_t block = 0; block < grid.blocks(); block += 3) {
      const double slope = (loss_at(block, kStep) - loss_at(block, -kStep)) / (2 * kStep);
      CHECK(ds[static_cast<std::size_t>(block)] ==
            doctest::Approx(slope).epsilon(1e-6).scale(1e-3));
    }
  }
}

TEST_CASE("SuperBlock's matrices keep the counts of methods.md in a ViT-B block and its head") {
  ModelConfig config{.family = layers::ModelFamily::kVit,
                     .layers = 1,
                     .heads = 12,
                     .kv_heads = 12,
                     .width = 768,
                     .mlp_width = 3072,
                     .activation = kernels::Activation::kGelu,
                     .image_size = 32,
                     .channels = 3,
                     .patch_size = 16,
                     .classes = 1000};
  config.context = config.image_tokens();
  struct Case {
    std::int64_t block;
    double sparsity;
    std::int64_t mlp;
    std::int64_t head;  // 1000 rows: the last of its block rows is ragged
  };
  // head: ⌈1000/b⌉·768/b blocks, of which n − round(s·(n − 1)) are kept
  for (const Case& c : {Case{16, 0.7, 2765, 908}, {32, 0.8, 462, 154}, {64, 0.9, 58, 20}}) {
    CAPTURE(c.block);
    VisionTransformer model(config, {.seed = 2, .stream = test::test_stream()});
    test::make_sparse(model, test::rule_for_all(sparsity::Method::kSupermask, c.sparsity, c.block));
    for (const LinearWeight* weight : model.linear_weights()) {
      const std::string& name = weight->name();
      if (name.find(".mlp.") != std::string::npos)
        CHECK(weight->pattern()->nnzb() == c.mlp);
      if (name == "head.weight")
        CHECK(weight->pattern()->nnzb() == c.head);
    }
  }
}

}  // namespace hew
