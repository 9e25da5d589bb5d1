#include <doctest/doctest.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "layers/vision_transformer.h"
#include "tests/io/scratch.h"
#include "tests/support/compare.h"
#include "tests/support/random.h"
#include "train/export.h"
#include "train/import.h"
#include "train/start_weights.h"

namespace hew::test {
namespace {

constexpr auto kDense = train::ExportFormat::kDenseSafetensors;

// Sizes that no block divides; a head of 13 rows.
constexpr const char* kRecipe = R"(
run: {dir: run}
model: {family: vit, layers: 2, heads: 2, width: 28, mlp_width: 44, patch_size: 4, classes: 13,
        init_std: 0.3}
data: {train: images, image: {size: 12, channels: 3, mean: [0.5, 0.4, 0.3], std: [0.2]}}
train: {steps: 10, batch: 4}
optim: {lr: 1e-3}
)";

train::TrainedModel made(const std::vector<std::string>& overrides) {
  train::TrainedModel out;
  out.recipe = train::parse_recipe(kRecipe, "recipe.yaml", overrides);
  out.parts = train::build_model(out.recipe, make_cpu_stream());
  out.parts.sparsifier->initialise();
  out.parts.sparsifier->select_trained_masks(0);
  for (int i = 0; i < 13; ++i) out.data.classes.push_back("class " + std::to_string(i));
  return out;
}

Tensor logits_of(const train::TrainedModel& model) {
  const std::int64_t size = model.recipe.model.image_size;
  const Tensor images = random_tensor({3, 3, size, size}, DType::kFloat32, make_cpu_stream(), 7);
  ag::ForwardContext context;
  return layers::as_vision_transformer(*model.parts.model).forward(images, context).value();
}

bool same_bits(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() &&
         std::memcmp(a.view().data, b.view().data, static_cast<std::size_t>(a.nbytes())) == 0;
}

Tensor parameter(const train::TrainedModel& model, const std::string& name) {
  for (const ag::Parameter* p : model.parts.model->parameters()) {
    if (p->name == name)
      return p->value();
  }
  return {};
}

std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

}  // namespace

TEST_CASE("an exported ViT's block-sparse logits are the folded ones, for every method and block") {
  const Scratch out;
  for (const std::string method :
       {"supermask", "spartan", "blast", "magnitude", "rigl", "set", "static"}) {
    for (const std::string block : {"8", "16", "32"}) {
      CAPTURE(method);
      CAPTURE(block);
      const train::TrainedModel run =
          made({"sparsity=[{match: [blocks.*.weight, head.weight], method: " + method +
                ", block: " + block + ", schedule: {name: constant, final: 0.6}}]"});
      train::export_model(run, out / "model.h5", {.force = true});
      train::export_model(run, out / "dense", {.format = kDense, .force = true});
      const train::TrainedModel sparse =
          train::load_trained_model(out / "model.h5", make_cpu_stream());
      const train::TrainedModel dense = train::import_model(out / "dense");
      std::int64_t masked = 0;
      for (const sparsity::LinearWeight* w : sparse.parts.model->linear_weights()) {
        masked += w->pattern() != nullptr && w->pattern()->nnzb() < w->pattern()->grid().blocks();
      }
      CHECK(masked >= 4);  // with blocks of 32 attention and head are one block each
      HEW_CHECK_CLOSE(logits_of(sparse), logits_of(dense), 1e-5, 1e-5);
      HEW_CHECK_CLOSE(logits_of(run), logits_of(dense), 1e-5, 1e-5);
      CHECK(sparse.data.classes == run.data.classes);
    }
  }
}

TEST_CASE("a dense ViT comes back from timm's folder to the last bit, of both poolings") {
  const Scratch out;
  for (const std::string pooling : {"cls", "mean"}) {
    const train::TrainedModel run = made({"model.pooling=" + pooling});
    train::export_model(run, out / pooling, {.format = kDense});
    const train::TrainedModel back = train::import_model(out / pooling);
    CHECK(same_bits(logits_of(back), logits_of(run)));
    CHECK(back.recipe.model.pooling == run.recipe.model.pooling);
    CHECK(back.data.classes == run.data.classes);
    CHECK(back.recipe.data.image.mean == std::vector<double>{0.5, 0.4, 0.3});
    CHECK(back.recipe.data.image.std == std::vector<double>{0.2, 0.2, 0.2});
  }
}

TEST_CASE("positions follow the size of images, the head the number of classes") {
  const Scratch out;
  const train::TrainedModel run = made({});
  train::export_model(run, out / "dense", {.format = kDense});
  const train::TrainedModel larger = train::import_model(out / "dense", {.image_size = 20});
  CHECK(larger.recipe.model.image_size == 20);
  CHECK(logits_of(larger).shape() == Shape{3, 13});
  const Tensor before = parameter(run, "position_embedding.weight");
  const Tensor after = parameter(larger, "position_embedding.weight");
  CHECK(after.shape() == Shape{26, 28});
  CHECK(same_bits(after.rows(0, 1), before.rows(0, 1)));
  CHECK(larger.data.classes.size() == 13);

  const train::TrainedModel other = train::import_model(out / "dense", {.classes = 4});
  CHECK(logits_of(other).shape() == Shape{3, 4});
  CHECK(other.data.classes.empty());
  CHECK(parameter(other, "head.bias").to_vector<float>() == std::vector<float>(4, 0.0F));
  CHECK(same_bits(parameter(other, "blocks.1.attn.k.weight"),
                  parameter(run, "blocks.1.attn.k.weight")));
  const std::string place = (out / "dense" / "config.json").string();
  CHECK(error_of([&] { train::import_model(out / "dense", {.vocab = 50}); }) ==
        "--vocab, --context: " + place + " is of a vit");
  CHECK(error_of([&] { train::import_model(out / "dense", {.image_size = 13}); }) ==
        "--image-size 13: " + place + " has patches of 4 pixels");
}

TEST_CASE("an import says what the recipe needs of images, and what is not done as asked") {
  const Scratch out;
  train::export_model(made({"data.image.crop=center", "data.image.center_fraction=0.9"}),
                      out / "dense", {.format = kDense});
  const std::filesystem::path file = out / "dense" / "config.json";
  const nlohmann::json good = nlohmann::json::parse(read_bytes(file));
  const train::TrainedModel plain = train::import_model(out / "dense");
  CHECK(plain.warnings.empty());
  const std::string section = train::model_section(plain.recipe);
  CHECK(section.substr(section.find('\n') + 1) ==
        "data: {image: {size: 12, channels: 3, mean: [0.5, 0.4, 0.3], std: [0.2, 0.2, 0.2], "
        "crop: center, center_fraction: 0.9}}");

  const auto write = [&](const std::string& key, const nlohmann::json& value) {
    nlohmann::json config = good;
    config["pretrained_cfg"][key] = value;
    write_bytes(file, config.dump());
  };
  write("interpolation", "bicubic");
  CHECK(train::import_model(out / "dense").warnings ==
        std::vector{file.string() + ": interpolation is bicubic, but hew resizes bilinearly"});
  write("crop_pct", 1.5);
  CHECK(error_of([&] { train::import_model(out / "dense"); }) ==
        file.string() +
            ": data.image.center_fraction: got '1.5', expected a number from 0.01 to 1");
}

TEST_CASE("a new ViT starts from an imported one of its shape") {
  const Scratch out;
  const train::TrainedModel run = made({});
  train::export_model(run, out / "start.h5", {});
  const auto start = [&](const std::vector<std::string>& overrides) {
    std::vector<std::string> all{"model.init=" + (out / "start.h5").string(), "run.seed=9"};
    all.insert(all.end(), overrides.begin(), overrides.end());
    train::TrainedModel fresh = made(all);
    train::start_from_init(fresh.recipe, {}, *fresh.parts.model);
    return fresh;
  };
  CHECK(same_bits(logits_of(start({"model.drop_path=0.1"})), logits_of(run)));
  CHECK(error_of([&] {
          start({"data.image.size=16", "model.classes=4"});
        }) ==
        (out / "start.h5").string() +
            ": model.classes is 13, the recipe has 4; data.image.size is 12, the recipe has 16");
}

TEST_CASE("a start whose classes have other names is refused") {
  const Scratch out;
  const std::string file = (out / "start.h5").string();
  train::TrainedModel run = made({});
  const auto error = [&](const std::vector<std::string>& classes) {
    train::export_model(run, file, {.force = true});
    train::TrainedModel fresh = made({"model.init=" + file});
    return error_of(
        [&] { train::start_from_init(fresh.recipe, {.classes = classes}, *fresh.parts.model); });
  };
  const std::vector<std::string> names = run.data.classes;
  CHECK(error(names) == "");
  std::vector<std::string> others = names;
  std::swap(others[2], others[7]);
  CHECK(error(others) == file + ": class 2 is 'class 2', in images it is 'class 7'");
  others = {names.begin(), names.begin() + 4};  // the head may have more than the data
  CHECK(error(others) == "");
  CHECK(error({}) == "");
  std::vector<std::string> numbers;
  for (int i = 0; i < 13; ++i) numbers.push_back(std::to_string(i));
  CHECK(error(numbers) == "");
  numbers[5] = "other";
  CHECK(error(numbers) == file + ": class 5 is 'class 5', in images it is 'other'");
  numbers[5] = "5";
  run.data.classes = numbers;
  CHECK(error(names) == "");
}

}  // namespace hew::test
