#include "train/inspection.h"

#include <doctest/doctest.h>

#include "layers/language_model.h"

namespace hew::test {

TEST_CASE("an inspection counts live blocks, rows and norms as the mask has them") {
  const Stream cpu = make_cpu_stream();
  layers::LanguageModel model({.layers = 1,
                               .heads = 1,
                               .kv_heads = 1,
                               .width = 16,
                               .mlp_width = 20,
                               .context = 4,
                               .vocab = 5},
                              {.seed = 1, .stream = cpu});
  const train::ParameterCount before = train::count_parameters(model);
  CHECK(before.stored == before.dense);
  sparsity::LinearWeight* up = nullptr;
  for (sparsity::LinearWeight* weight : model.linear_weights()) {
    if (weight->name() == "blocks.0.mlp.up.weight")
      up = weight;
  }
  REQUIRE(up != nullptr);
  const sparsity::BlockGrid grid{.rows = 20, .cols = 16, .block = 8};
  const auto pattern = std::make_shared<const sparsity::BsrPattern>(
      grid, sparsity::MaskBytes{1, 1, 0, 0, 0, 1}, cpu);
  up->restore(sparsity::Storage::kLiveBlocks, pattern,
              Tensor::from(std::vector<float>(192, 0.5F), {3, 8, 8}, cpu), Tensor());
  CHECK(train::draw_mask(*pattern) == "##\n··\n·#\n");
  const auto weights = train::inspect_weights(model);
  const auto& w = weights[4];
  CHECK(w.name == "blocks.0.mlp.up.weight");
  CHECK(name_of(w.storage) == "blocks");
  CHECK(w.live_blocks == 3);
  CHECK(w.blocks == 6);
  CHECK(w.sparsity == doctest::Approx(0.5));
  CHECK(w.row_blocks_min == 0);
  CHECK(w.row_blocks_max == 2);
  CHECK(w.norm == doctest::Approx(std::sqrt(192 * 0.25)));
  CHECK(weights[5].block == 0);
  const train::ParameterCount after = train::count_parameters(model);
  CHECK(after.dense == before.dense);
  CHECK(after.stored == before.dense - 20 * 16 + 192);
}

}  // namespace hew::test
