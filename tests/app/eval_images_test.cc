#include "app/eval_images.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "tests/io/scratch.h"
#include "tests/train/tiny_images.h"
#include "train/model_setup.h"

namespace hew::test {
namespace {

constexpr std::int64_t kClasses = 5;  // of the model; the images are of three

// A model that takes every image for its last class.
train::TrainedModel stubborn(const train::Recipe& recipe, const Stream& stream) {
  train::TrainedModel out;
  out.recipe = recipe;
  out.recipe.model.classes = kClasses;
  out.file = "model.h5";
  out.parts = train::build_model(out.recipe, stream);
  for (ag::Parameter* p : out.parts.model->parameters()) {
    if (p->name == "head.bias") {
      p->var.mutable_value().copy_from(
          Tensor::from(std::vector<float>{0, 0, 0, 0, 1e3}, {kClasses}, stream));
    }
  }
  return out;
}

}  // namespace

TEST_CASE("classes that the images do not have go by their numbers") {
  dist::LocalCommunicator alone;
  const Scratch scratch;
  const TinyImageRuns runs(scratch.path(), alone);
  const RankDevice device(Device{}, alone);
  train::TrainedModel trained = stubborn(runs.recipe("run", {}), device.stream());
  const std::string text = report_images(trained, {.batch = 8}, device);
  CHECK(text.find("top-1 0.00 %") != std::string::npos);
  CHECK(text.find("\n  0.00 %  2  taken for 4 100.0 %") != std::string::npos);
  trained.data.classes = {"0", "1", "2"};
  CHECK(report_images(trained, {.batch = 8}, device) == text);
  const auto object =
      nlohmann::json::parse(report_images(trained, {.batch = 8, .json = true}, device));
  REQUIRE(object["worst_classes"].size() == 3);
  CHECK(object["worst_classes"][2]["class"] == "2");
  CHECK(object["worst_classes"][2]["taken_for"]["4"] == 1.0);
}

}  // namespace hew::test
