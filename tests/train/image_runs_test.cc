// Training a vision transformer from a recipe to its evaluation.

#include <doctest/doctest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>

#include "core/error.h"
#include "optim/make_optimizer.h"
#include "tests/support/compare.h"
#include "tests/support/device.h"
#include "tests/support/random.h"
#include "tests/support/sizes.h"
#include "tests/train/tiny_images.h"
#include "tests/train/tiny_run.h"
#include "train/dry_run.h"
#include "train/flops.h"
#include "train/image_evaluation.h"
#include "train/model_setup.h"
#include "train/trained_model.h"

namespace hew::test {
namespace {

constexpr const char* kMiddle = "checkpoints/step-00000020.h5";
constexpr const char* kEnd = "checkpoints/step-00000040.h5";

struct Fixture {
  dist::LocalCommunicator alone;
  Scratch scratch;
  TinyImageRuns runs{scratch.path(), alone};

  std::string refusal(const std::vector<std::string>& overrides) {
    try {
      run_training(runs.recipe("refused", overrides), alone);
    } catch (const Error& error) {
      CHECK_FALSE(std::filesystem::exists(runs.directory("refused") / "recipe.yaml"));
      return error.what();
    }
    return "";
  }
};

std::vector<nlohmann::json> evaluations(const std::filesystem::path& run) {
  std::vector<nlohmann::json> records;
  std::ifstream in(run / "metrics.jsonl");
  for (std::string line; std::getline(in, line);) {
    nlohmann::json record = nlohmann::json::parse(line);
    if (record["kind"] == "eval")
      records.push_back(std::move(record));
  }
  return records;
}

train::ImageEvaluation evaluate(const Fixture& fixture, const std::string& run,
                                bool confusion = false) {
  const train::TrainedModel trained =
      train::load_trained_model(fixture.runs.directory(run), test_stream());
  dist::LocalCommunicator alone;
  return train::evaluate_images(layers::as_vision_transformer(*trained.parts.model),
                                {.images = open_image_set(fixture.runs.valid_path()),
                                 .transform = trained.recipe.data.image,
                                 .batch = 7,
                                 .confusion = confusion},
                                alone, test_stream());
}

}  // namespace

TEST_CASE_FIXTURE(Fixture,
                  "a ViT learns, says so in its metrics, and evaluates alike when loaded") {
  run_training(runs.recipe("dense", {"train.steps=200", "model.dropout=0", "data.image.mixup=0",
                                     "data.image.pad=0", "model.init_std=0.1"}),
               alone);
  const std::vector<nlohmann::json> logged = evaluations(runs.directory("dense"));
  REQUIRE(logged.size() == 1);
  CHECK(logged[0]["images"] == 31);
  CHECK(logged[0]["top1"].get<double>() >= 0.9);
  CHECK(logged[0]["top5"].get<double>() == 1.0);
  const train::ImageEvaluation loaded = evaluate(*this, "dense");
  CHECK(loaded.images == 31);
  CHECK(loaded.top1 == logged[0]["top1"].get<double>());
  CHECK(std::abs(loaded.loss - logged[0]["loss"].get<double>()) <= 1e-5);
  CHECK(loaded.confusion.empty());
  const train::ImageEvaluation counted = evaluate(*this, "dense", /*confusion=*/true);
  CHECK(counted.top1 == loaded.top1);
  CHECK(counted.top5 == loaded.top5);
  CHECK(counted.loss == loaded.loss);
  REQUIRE(counted.classes() == 3);
  std::int64_t right = 0;
  for (std::size_t c = 0; c < 3; ++c) right += counted.confusion[c * 3 + c];
  CHECK(static_cast<double>(right) / 31 == loaded.top1);
  CHECK(
      train::Checkpoint(runs.directory("dense") / "checkpoints/step-00000200.h5").data().classes ==
      std::vector<std::string>{"0", "1", "2"});
}

TEST_CASE_FIXTURE(Fixture,
                  "40 steps are 20, a resume and 20 more, to the last byte, by any method") {
  for (const std::string method : {"supermask", "blast", "magnitude", "static"}) {
    CAPTURE(method);
    if (small_sizes() && method != "supermask")
      continue;
    const std::vector<std::string> sparsity{image_sparsity(method), "train.ema=0.9"};
    check_resume(runs.recipe(method + "-whole", sparsity),
                 runs.recipe(method + "-halves", sparsity), /*middle=*/20, alone);
    CHECK(evaluate(*this, method + "-halves").images == 31);
  }
}

TEST_CASE_FIXTURE(Fixture, "scores that are frozen leave live blocks, as many as were wanted") {
  run_training(runs.recipe("run", {image_sparsity("supermask")}), alone);
  const auto weights_at = [&](const char* checkpoint) {
    return train::load_trained_model(runs.directory("run") / checkpoint, test_stream());
  };
  const train::TrainedModel before = weights_at(kMiddle);
  const train::TrainedModel after = weights_at(kEnd);
  for (const auto& [trained, frozen] : {std::pair{&before, false}, {&after, true}}) {
    std::int64_t masked = 0;
    for (const sparsity::LinearWeight* weight : trained->parts.model->linear_weights()) {
      if (weight->pattern() == nullptr)
        continue;
      ++masked;
      // For inference a GPU folds the masks, and there are no scores any more.
      CHECK(weight->has_scores() == (!frozen && !on_gpu()));
      CHECK(weight->pattern()->nnzb() ==
            sparsity::kept_blocks(weight->pattern()->grid().blocks(), 0.5));
    }
    CHECK(masked == 2 * 6 + 1);  // q, k, v, out, up and down of two blocks, and the head
  }
}

TEST_CASE("weight decay reaches weights, dead blocks and scores; nothing else moves by it") {
  constexpr double kRate = 0.01;
  constexpr double kDecay = 0.3;
  train::Recipe recipe;
  recipe.model = {.family = layers::ModelFamily::kVit,
                  .layers = 1,
                  .heads = 2,
                  .kv_heads = 2,
                  .width = 16,
                  .mlp_width = 24,
                  .context = 5,
                  .image_size = 8,
                  .channels = 1,
                  .patch_size = 4,
                  .classes = 10};
  recipe.train.precision = train::Precision::kFp64;
  sparsity::SparsityRule rule;
  rule.match = {"*"};
  rule.method = sparsity::Method::kSupermask;
  rule.block = 8;
  sparsity::apply_method(rule);
  rule.schedule.initial = rule.schedule.final = 0.5;
  recipe.sparsity = {rule};
  train::SparseModel parts = train::build_model(recipe, test_stream());
  parts.sparsifier->initialise();
  optim::OptimConfig config;
  config.lr = kRate;
  config.weight_decay = kDecay;
  const auto optimizer = optim::make_optimizer(config, parts.model->parameters());
  std::vector<Tensor> before;
  for (ag::Parameter* p : parts.model->parameters()) {
    before.push_back(p->value().clone());
    p->var.grad() = Tensor::zeros(p->value().shape(), p->value().dtype(), test_stream());
  }
  optimizer->step(kRate);
  const std::vector<ag::Parameter*> parameters = parts.model->parameters();
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const std::string& name = parameters[i]->name;
    CAPTURE(name);
    const bool decays = name.ends_with("weight.scores") ||
                        (name.ends_with(".weight") && name.find("norm") == std::string::npos &&
                         name.find("position") == std::string::npos);
    const std::vector<double> old = before[i].to_vector<double>();
    std::vector<double> wanted;
    for (const double value : old) wanted.push_back(decays ? value * (1 - kRate * kDecay) : value);
    HEW_CHECK_CLOSE(parameters[i]->value(), Tensor::from(wanted, before[i].shape(), test_stream()),
                    1e-14);
  }
}

TEST_CASE_FIXTURE(Fixture, "images that cannot be used are named before anything is written") {
  const std::string other =
      write_idx(scratch.path(), "other", 6, std::vector<std::uint8_t>(3 * 36), {0, 1, 2});
  const std::string more =
      write_idx(scratch.path(), "more", 8, std::vector<std::uint8_t>(4 * 64), {0, 1, 2, 3});
  CHECK(refusal({"data.train=" + other}).find("other-images-idx3-ubyte") != std::string::npos);
  CHECK(refusal({"data.valid=" + other}).find("other-images-idx3-ubyte") != std::string::npos);
  CHECK(refusal({"data.valid=" + more}).find("its classes are not those of") != std::string::npos);
  CHECK(refusal({"model.classes=2"}).find("model.classes: 2, but") == 0);
  CHECK(refusal({"data.train=/none/at/all"}).find("/none/at/all") != std::string::npos);
  CHECK(refusal({"train.eval_batches=0", "model.classes=5"}) == "");  // more than there are
}

TEST_CASE_FIXTURE(Fixture, "a resume does not take other images for the run's") {
  const train::Recipe recipe = runs.recipe("run", {"train.steps=8"});
  run_training(recipe, alone, {.stop_after = 2});
  const std::string labels =
      std::regex_replace(runs.train_path(), std::regex("images-idx3"), "labels-idx1");
  std::string bytes = read_bytes(labels);
  std::swap(bytes.back(), bytes[bytes.size() - 2]);
  REQUIRE(bytes != read_bytes(labels));
  write_bytes(labels, bytes);
  const auto resume = [&] { run_training(recipe, alone, {.resume = true}); };
  CHECK_THROWS_WITH_AS(
      resume(),
      (runs.train_path() + ": its images are not those that the run was trained on").c_str(),
      DataError);
}

TEST_CASE_FIXTURE(Fixture, "what a ViT's recipe gets wrong is said at its key") {
  const auto problem = [&](const std::vector<std::string>& overrides) -> std::string {
    try {
      runs.recipe("x", overrides);
    } catch (const ConfigError& error) {
      return error.what();
    }
    return "";
  };
  const auto says = [&](const std::string& override, const std::string& text) {
    const std::string got = problem({override});
    CHECK_MESSAGE(got.find(text) != std::string::npos, override << " gave " << got);
  };
  says("model.patch_size=3", "data.image.size: got 8, expected a multiple of model.patch_size = 3");
  says("model.context=5", "only applies with model.family: gpt2 or llama");
  says("model.heads=3", "model.width: got 16, expected a multiple of model.heads = 3");
  says("data.image.mean=[0.1, 0.2]", "2 numbers, expected 1 or one for each of 1 channels");
  says("data.image.channels=2", "got '2', expected an integer that is 1 or 3");
  says("data.image.repeats=3", "got 3, expected a divisor of train.batch = 8");
  says("train.label_smoothing=1", "got '1', expected a number ≥ 0 and < 1");
  says("model.pooling=max", "expected one of cls, mean");
  says("model.family=gpt2", "model.patch_size: only applies with model.family: vit");
  CHECK(problem({"data.image.mean=0.1", "data.image.std=[0.2]"}) == "");
}

TEST_CASE("named sizes are those of the papers, and numbers overrule them") {
  const std::string text =
      "run: {dir: x}\n"
      "model: {family: vit, size: vit_base, patch_size: 16}\n"
      "data: {train: a, image: {size: 224}}\n"
      "train: {steps: 10, batch: 2}\noptim: {lr: 1e-3}\n";
  const train::Recipe base = train::parse_recipe(text, "r.yaml");
  CHECK(base.model.layers == 12);
  CHECK(base.model.heads == 12);
  CHECK(base.model.width == 768);
  CHECK(base.model.mlp_width == 3072);
  CHECK(base.model.context == 197);
  CHECK(base.model.norm_eps == 1e-6);
  CHECK(base.model.activation == kernels::Activation::kGelu);
  CHECK(train::parse_recipe(train::to_yaml(base), "again") == base);
  const train::Recipe shallow =
      train::parse_recipe(text, "r.yaml", {"model.layers=3", "model.pooling=mean"});
  CHECK(shallow.model.layers == 3);
  CHECK(shallow.model.width == 768);
  CHECK(shallow.model.context == 196);
  struct Size {
    const char* name;
    std::int64_t parameters;  // as timm has them
    std::int64_t patch;
  };
  for (const Size& size : {Size{"vit_tiny", 5717416, 16},
                           {"vit_small", 22050664, 16},
                           {"vit_base", 86567656, 16},
                           {"vit_large", 304326632, 16},
                           {"vit_huge", 632045800, 14}}) {
    CAPTURE(size.name);
    train::Recipe recipe =
        train::parse_recipe(text, "r.yaml",
                            {fmt::format("model.size={}", size.name),
                             fmt::format("model.patch_size={}", size.patch), "model.classes=1000"});
    const train::SparseModel parts =
        train::build_model(recipe, make_cpu_stream(), train::Build::kShapesOnly);
    std::int64_t count = 0;
    for (const ag::Parameter* p : parts.model->parameters()) count += p->value().numel();
    CHECK(count == size.parameters);
  }
}

TEST_CASE("a step's FLOPs are three times a forward pass, less what pixels need not") {
  train::Recipe recipe = train::parse_recipe(
      "run: {dir: x}\n"
      "model: {family: vit, size: vit_base, patch_size: 16, classes: 1000}\n"
      "data: {train: a, image: {size: 224}}\n"
      "train: {steps: 10, batch: 2}\noptim: {lr: 1e-3}\n",
      "r.yaml");
  const train::SparseModel parts =
      train::build_model(recipe, make_cpu_stream(), train::Build::kShapesOnly);
  std::vector<train::WeightCost> costs;
  for (const sparsity::LinearWeight* weight : parts.model->linear_weights()) {
    costs.push_back(train::dense_cost(recipe.model, weight->name(), weight->out_features(),
                                      weight->in_features()));
  }
  constexpr double kPatches = 196.0 * 768 * 768;
  constexpr double kBlocks = 12.0 * 197 * 12 * 768 * 768;
  constexpr double kHead = 768.0 * 1000;
  constexpr double kAttention = 12.0 * 197 * 197 * 768;  // of one product
  const double macs = 3 * (kBlocks + kHead) + 2 * kPatches + 7 * kAttention;
  CHECK(train::step_flops(recipe.model, 2, costs) == doctest::Approx(2 * 2 * macs).epsilon(1e-12));
  // timm and fvcore: 17.58 GMACs forward.
  CHECK((kBlocks + kHead + kPatches + 2 * kAttention) / 1e9 ==
        doctest::Approx(17.58).epsilon(1e-3));
}

TEST_CASE_FIXTURE(Fixture, "a dry run of a ViT counts its images and reads their classes") {
  const std::string report = train::dry_run_report(
      runs.recipe("dry", {image_sparsity("supermask")}), 1, make_cpu_stream());
  CHECK(report.find("head.weight") != std::string::npos);
  CHECK(report.find("[3, 16]") != std::string::npos);
  CHECK(report.find("8 images, 40 tokens a step") != std::string::npos);
  CHECK(report.find("over 40 steps, 3.200e+02 images") != std::string::npos);
}

TEST_CASE("of equal logits the lower class comes first, and worst classes say what they became") {
  train::ImageEvaluation evaluation{
      .images = 20, .loss = 1, .top1 = 0.6, .top5 = 1, .confusion = {8, 1, 1, 3, 2, 5, 0, 0, 0}};
  CHECK(evaluation.classes() == 3);
  const std::vector<train::ClassAccuracy> worst = train::worst_classes(evaluation, 5);
  REQUIRE(worst.size() == 2);  // nothing is known of the third
  CHECK(worst[0].label == 1);
  CHECK(worst[0].accuracy == doctest::Approx(0.2));
  CHECK(worst[0].mistakes[0].label == 2);
  CHECK(worst[0].mistakes[0].share == doctest::Approx(0.5));
  CHECK(worst[0].mistakes[1].label == 0);
  CHECK(worst[1].label == 0);
  CHECK(to_string(evaluation) ==
        "loss 1.0000 nats/image  top-1 60.00 %  top-5 100.00 %  (20 images)");
}

}  // namespace hew::test
