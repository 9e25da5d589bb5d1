#include "train/inspection.h"

#include <doctest/doctest.h>

#include "core/error.h"
#include "layers/language_model.h"
#include "train/mask_picture.h"

namespace hew::test {
namespace {

// A mask of six blocks of 8 over [20, 16] on the first MLP matrix of the last layer; the block at
// the ragged edge is as large as its four rows allow.
void mask_up(layers::Model& model, const std::vector<float>& levels) {
  const Stream cpu = make_cpu_stream();
  const auto pattern = std::make_shared<const sparsity::BsrPattern>(
      sparsity::BlockGrid{.rows = 20, .cols = 16, .block = 8},
      sparsity::MaskBytes{1, 1, 0, 0, 0, 1}, cpu);
  std::vector<float> values;
  for (std::size_t p = 0; p < 3; ++p) {
    const std::size_t own = p == 2 ? 32 : 64;
    values.insert(values.end(), own, levels[p]);
    values.insert(values.end(), 64 - own, 0.0F);
  }
  for (sparsity::LinearWeight* weight : model.linear_weights()) {
    if (weight->name() == "blocks.0.mlp.up.weight") {
      weight->restore(sparsity::Storage::kLiveBlocks, pattern, Tensor::from(values, {3, 8, 8}, cpu),
                      Tensor());
    }
  }
}

std::vector<int> pixel(const DecodedImage& image, std::int64_t x, std::int64_t y) {
  const auto at = image.pixels.begin() + 3 * (y * image.width + x);
  return {at[0], at[1], at[2]};
}

}  // namespace

TEST_CASE("a picture of masks has a square for each block, where its panel says") {
  layers::LanguageModel model({.layers = 1,
                               .heads = 1,
                               .kv_heads = 1,
                               .width = 16,
                               .mlp_width = 20,
                               .context = 4,
                               .vocab = 5},
                              {.seed = 1, .stream = make_cpu_stream()});
  CHECK_THROWS_WITH_AS(train::draw_masks(model, train::MaskColors::kLive),
                       "--png: no matrix of the model is under a mask", ConfigError);
  mask_up(model, {0.25F, 0.5F, 1.0F});
  const train::MaskPicture live = train::draw_masks(model, train::MaskColors::kLive);
  REQUIRE(live.panels.size() == 1);
  const train::MaskPanel& panel = live.panels[0];
  CHECK(panel.name == "blocks.0.mlp.up.weight");
  CHECK(live.block_pixels == 8);
  CHECK(panel.width == 16);
  CHECK(panel.height == 24);
  CHECK(live.image.shape() == ImageShape{3, 24 + 16, 16 + 16});
  CHECK(panel.live_blocks == 3);
  const auto block = [&](const train::MaskPicture& picture, std::int64_t r, std::int64_t c) {
    const auto first = pixel(picture.image, panel.x + 8 * c, panel.y + 8 * r);
    CHECK(pixel(picture.image, panel.x + 8 * c + 7, panel.y + 8 * r + 7) == first);
    return first;
  };
  const auto dark = block(live, 0, 0);
  const auto light = block(live, 1, 0);
  CHECK(dark != light);
  CHECK(block(live, 0, 1) == dark);
  CHECK(block(live, 1, 1) == light);
  CHECK(block(live, 2, 0) == light);
  CHECK(block(live, 2, 1) == dark);
  CHECK(pixel(live.image, 0, 0) == std::vector<int>{255, 255, 255});
  CHECK(pixel(live.image, panel.x - 1, panel.y + 3) == std::vector<int>{120, 120, 120});

  const train::MaskPicture norms = train::draw_masks(model, train::MaskColors::kNorms);
  CHECK(block(norms, 1, 0) == light);
  CHECK(block(norms, 2, 1) == std::vector<int>{64, 0, 40});  // the strongest, though half padding
  const auto weak = block(norms, 0, 0);
  const auto middle = block(norms, 0, 1);
  CHECK(weak[1] > middle[1]);
}

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
