#include "app/bench_model_pair.h"

#include <set>

#include "app/bench_random.h"
#include "app/recipe_choice.h"
#include "core/error.h"
#include "core/rng.h"
#include "layers/language_model.h"
#include "layers/vision_transformer.h"
#include "train/memory_check.h"
#include "train/start_weights.h"
#include "train/workload.h"

namespace hew {
namespace {

constexpr std::uint64_t kInputSeed = 1;

bool is_recipe(const std::string& path) {
  return path.ends_with(".yaml") || path.ends_with(".yml");
}

// The rule's matrices and its last sparsity, by chance and at once.
sparsity::SparsityRule at_random(const sparsity::SparsityRule& rule) {
  sparsity::SparsityRule out = rule;
  out.method = sparsity::Method::kStatic;
  sparsity::apply_method(out);
  out.schedule = {.kind = sparsity::ScheduleKind::kConstant,
                  .initial = rule.schedule.final,
                  .final = rule.schedule.final,
                  .table = {}};
  out.freeze_scores_at.reset();
  out.scope = sparsity::Scope::kMatrix;
  return out;
}

void set_precision(train::Recipe& recipe, const std::string& wanted, Device device) {
  recipe.run.device = device;
  if (!wanted.empty()) {
    const auto precision = parse_named<train::Precision>(wanted);
    require<ConfigError>(precision.has_value(), "--precision {}: expected fp32, tf32, bf16 or fp64",
                         wanted);
    recipe.train.precision = *precision;
  }
  const bool gpu_only = recipe.train.precision == train::Precision::kTf32 ||
                        recipe.train.precision == train::Precision::kBf16;
  if (!device.is_cpu() || !gpu_only)
    return;
  require<ConfigError>(wanted.empty(), "--precision {}: a CPU has fp32 and fp64", wanted);
  recipe.train.precision = train::Precision::kFp32;
}

train::TrainedModel open_recipe(const RecipeChoice& choice, const std::string& precision,
                                const Stream& stream) {
  train::TrainedModel made;
  made.recipe = train::load_recipe(choice.path, choice.overrides);
  set_precision(made.recipe, precision, stream.device);
  train::complete_model(made.recipe);
  for (sparsity::SparsityRule& rule : made.recipe.sparsity) rule = at_random(rule);
  dist::LocalCommunicator alone;
  if (const std::optional<train::DeviceMemory> memory = train::device_memory(stream.device, alone))
    train::require_weights_fit(made.recipe, *memory);
  made.parts = train::build_model(made.recipe, stream);
  made.parts.sparsifier->initialise();
  return made;
}

train::TrainedModel open_trained(const RecipeChoice& choice, const std::string& precision,
                                 const Stream& stream) {
  require<ConfigError>(choice.overrides.empty(), "bench model: {} belongs to a recipe, not to {}",
                       choice.overrides.empty() ? "" : choice.overrides.front(), choice.path);
  train::TrainedModel trained = train::load_trained_model(choice.path, stream);
  const DType held = train::weight_dtype(trained.recipe.train.precision);
  set_precision(trained.recipe, precision, stream.device);
  require<ConfigError>(train::weight_dtype(trained.recipe.train.precision) == held,
                       "--precision {}: {} holds weights in {}", precision, choice.path,
                       name_of(held));
  trained.parts.sparsifier->fold_masks();
  return trained;
}

void count(ModelPair& pair) {
  std::set<std::int64_t> blocks;
  for (const sparsity::LinearWeight* weight : pair.sparse.model->linear_weights()) {
    if (weight->pattern() == nullptr)
      continue;
    const sparsity::BlockGrid& grid = weight->pattern()->grid();
    const std::int64_t area = grid.block * grid.block;
    ++pair.masked_weights;
    pair.live_elements += weight->pattern()->nnzb() * area;
    pair.masked_elements += grid.blocks() * area;
    blocks.insert(grid.block);
  }
  pair.blocks.assign(blocks.begin(), blocks.end());
}

Tensor random_tokens(const Shape& shape, std::int64_t vocab, const Stream& stream) {
  std::vector<std::int32_t> ids(static_cast<std::size_t>(shape.numel()));
  for (std::size_t i = 0; i < ids.size(); ++i) {
    ids[i] = static_cast<std::int32_t>(
        uniform_below(kInputSeed, 0, i, static_cast<std::uint64_t>(vocab)));
  }
  return Tensor::from(ids, shape, stream);
}

}  // namespace

ModelPair open_pair(const std::vector<std::string>& words, const std::string& precision,
                    const Stream& stream) {
  const RecipeChoice choice = choose_recipe(words);
  require<ConfigError>(!choice.path.empty(), "bench model: expected a model or a recipe");
  train::TrainedModel opened = is_recipe(choice.path) ? open_recipe(choice, precision, stream)
                                                      : open_trained(choice, precision, stream);
  train::set_up_kernels(opened.recipe, stream);
  ModelPair pair{.recipe = opened.recipe, .sparse = {}, .dense = {}, .blocks = {}};
  train::Recipe dense = opened.recipe;
  dense.sparsity.clear();
  pair.dense = train::build_model(dense, stream);
  train::copy_weights(opened, *pair.dense.model);
  pair.sparse = std::move(opened.parts);
  count(pair);
  require<ConfigError>(pair.masked_weights > 0, "{}: no matrix of the model is under a mask",
                       choice.path);
  return pair;
}

std::function<Tensor()> forward_pass(const layers::Model& model, const train::Recipe& recipe,
                                     std::int64_t batch, std::int64_t tokens,
                                     const Stream& stream) {
  const auto context = [dtype = train::activation_dtype(recipe.train.precision)] {
    return ag::ForwardContext{.dtype = dtype};
  };
  if (recipe.model.reads_images()) {
    const layers::VisionTransformer& vision = layers::as_vision_transformer(model);
    const std::int64_t size = recipe.model.image_size;
    const Tensor images =
        RandomTensors(stream).normal({batch, recipe.model.channels, size, size}, DType::kFloat32);
    return [&vision, images, context] {
      ag::ForwardContext now = context();
      return vision.forward(images, now).value();
    };
  }
  const layers::LanguageModel& language = layers::as_language_model(model);
  const std::int64_t length = tokens > 0 ? tokens : recipe.model.context;
  const Tensor ids = random_tokens({batch, length}, recipe.model.vocab, stream);
  return [&language, ids, context] {
    ag::ForwardContext now = context();
    return language.forward(ids, now).value();
  };
}

}  // namespace hew
