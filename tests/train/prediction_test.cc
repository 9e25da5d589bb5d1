#include "train/prediction.h"

#include <doctest/doctest.h>

#include "core/error.h"
#include "tests/io/scratch.h"
#include "train/model_file.h"

namespace hew::test {
namespace {

constexpr const char* kVit = R"(
run: {dir: run}
model: {family: vit, layers: 1, heads: 2, width: 12, patch_size: 4, classes: 5, init_std: 0.3}
data: {train: images, image: {size: 8, channels: 3}}
train: {steps: 10, batch: 4}
optim: {lr: 1e-3}
)";

train::TrainedModel made(const std::vector<std::string>& overrides = {}) {
  train::TrainedModel out;
  out.recipe = train::parse_recipe(kVit, "recipe.yaml", overrides);
  out.parts = train::build_model(out.recipe, make_cpu_stream());
  return out;
}

// Left half dark, right half light, whatever the size.
DecodedImage halves(std::int64_t height, std::int64_t width) {
  DecodedImage out{.pixels = {}, .height = height, .width = width, .channels = 1};
  for (std::int64_t i = 0; i < height * width; ++i) {
    out.pixels.push_back(i % width < width / 2 ? 40 : 200);
  }
  return out;
}

}  // namespace

TEST_CASE("predictions are sorted probabilities, and do not depend on the batch") {
  train::TrainedModel model = made();
  const std::vector<DecodedImage> images{halves(8, 8), halves(8, 8), halves(8, 8)};
  const auto all = train::predict(model, images, 9, 2, make_cpu_stream());
  REQUIRE(all.size() == 3);
  for (const auto& classes : all) {
    REQUIRE(classes.size() == 5);
    double sum = 0;
    for (std::size_t i = 0; i < classes.size(); ++i) {
      sum += classes[i].probability;
      CHECK(classes[i].label == all[0][i].label);
      CHECK(classes[i].probability == doctest::Approx(all[0][i].probability));
      CHECK(classes[i].name == std::to_string(classes[i].label));
      if (i > 0)
        CHECK(classes[i].probability <= classes[i - 1].probability);
    }
    CHECK(sum == doctest::Approx(1));
  }
  model.data.classes = {"a", "b", "c", "d", "e"};
  const auto top = train::predict(model, images, 1, 16, make_cpu_stream());
  REQUIRE(top[2].size() == 1);
  CHECK(top[2][0].name == model.data.classes[static_cast<std::size_t>(all[0][0].label)]);
}

TEST_CASE("an image of another size is made the size, its middle where it is not square") {
  const train::TrainedModel model = made();
  // Halves stay halves when they are resized by a whole number, and when top and bottom go.
  const auto predictions = train::predict(model, {halves(8, 8), halves(32, 32), halves(64, 32)}, 5,
                                          16, make_cpu_stream());
  // The filter blurs a column on each side of the edge.
  for (const auto& classes : predictions) {
    CHECK(classes[0].label == predictions[0][0].label);
    CHECK(classes[0].probability == doctest::Approx(predictions[0][0].probability).epsilon(0.1));
  }
  CHECK(predictions[1][0].probability == doctest::Approx(predictions[2][0].probability));
}

TEST_CASE("a model that a GPU trained in bf16 predicts on the CPU") {
  const Scratch scratch;
  const train::TrainedModel made_here = made();
  train::TrainedModel on_gpu = made({"run.device=cuda", "train.precision=bf16"});
  on_gpu.file = (scratch / "model.h5").string();
  train::save_model_hdf5(on_gpu.file, on_gpu, DType::kFloat32);
  const train::TrainedModel loaded = train::load_trained_model(on_gpu.file, make_cpu_stream());
  REQUIRE(loaded.recipe.train.precision == train::Precision::kBf16);
  const auto first = train::predict(made_here, {halves(8, 8)}, 5, 1, make_cpu_stream());
  const auto second = train::predict(loaded, {halves(8, 8)}, 5, 1, make_cpu_stream());
  for (std::size_t i = 0; i < 5; ++i) {
    CHECK(second[0][i].label == first[0][i].label);
    CHECK(second[0][i].probability == doctest::Approx(first[0][i].probability));
  }
}

TEST_CASE("a language model does not read images") {
  train::TrainedModel text;
  text.recipe = train::parse_recipe(
      "run: {dir: run}\nmodel: {family: gpt2, layers: 1, heads: 1, width: 8, context: 4, vocab: "
      "9}\n"
      "data: {train: x}\ntrain: {steps: 1, batch: 1}\noptim: {lr: 1}\n",
      "recipe.yaml");
  text.parts = train::build_model(text.recipe, make_cpu_stream());
  CHECK_THROWS_WITH_AS(train::predict(text, {halves(8, 8)}, 1, 1, make_cpu_stream()),
                       "[model] a gpt2 is no vision transformer", ConfigError);
}

}  // namespace hew::test
