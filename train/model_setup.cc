#include "train/model_setup.h"

#include "core/error.h"
#include "kernels/attention_settings.h"
#include "kernels/bsr_routes.h"
#include "kernels/product_settings.h"
#include "layers/language_model.h"
#include "layers/vision_transformer.h"

namespace hew::train {

DType weight_dtype(Precision precision) {
  return precision == Precision::kFp64 ? DType::kFloat64 : DType::kFloat32;
}

DType activation_dtype(Precision precision) {
  return precision == Precision::kBf16 ? DType::kBFloat16 : weight_dtype(precision);
}

ag::ForwardContext forward_context(const Recipe& recipe) {
  const Recompute recompute = recipe.train.recompute;
  return {.seed = static_cast<std::uint64_t>(recipe.run.seed),
          .dtype = activation_dtype(recipe.train.precision),
          .recompute_blocks = recompute == Recompute::kBlocks,
          .remake_activations =
              recompute == Recompute::kActivations || recompute == Recompute::kElementwise,
          .remake_norms = recompute == Recompute::kElementwise};
}

void set_up_kernels(const Recipe& recipe, const Stream& stream) {
  auto& products = stream.state->get<kernels::ProductSettings>(stream);
  products.tf32 = recipe.train.precision == Precision::kTf32;
  products.deterministic = recipe.run.deterministic;
  stream.state->get<kernels::AttentionSettings>(stream).deterministic = recipe.run.deterministic;
  stream.state->get<kernels::BsrSettings>(stream).keep_folded = recipe.run.keep_folded;
}

std::string product_choices(const Stream& stream) {
  const auto& products = stream.state->get<kernels::ProductSettings>(stream);
  return products.choices.empty() ? std::string() : products.export_choices();
}

SparseModel build_model(const Recipe& recipe, const Stream& stream, Build build,
                        const std::function<void()>& interrupt) {
  const auto seed = static_cast<std::uint64_t>(recipe.run.seed);
  SparseModel parts;
  const layers::Initializer init{.seed = seed,
                                 .dtype = weight_dtype(recipe.train.precision),
                                 .stream = stream,
                                 .shapes_only = build == Build::kShapesOnly,
                                 .interrupt = interrupt};
  if (recipe.model.reads_images()) {
    parts.model = std::make_unique<layers::VisionTransformer>(recipe.model, init);
  } else {
    parts.model = std::make_unique<layers::LanguageModel>(recipe.model, init);
  }
  parts.sparsifier = std::make_unique<sparsity::Sparsifier>(
      recipe.sparsity, parts.model->linear_weights(), recipe.model.layers, seed);
  return parts;
}

void settle_masks(const SparseModel& parts, std::int64_t steps) {
  parts.sparsifier->select_trained_masks(steps);
  if (parts.model->parameters().front()->var.stream().device.is_cuda())
    parts.sparsifier->fold_masks();
}

Checkpoint open_newest_checkpoint(const RunDirectory& directory,
                                  std::vector<std::string>& reports) {
  std::vector<std::string> broken;
  for (const std::filesystem::path& path : directory.checkpoints()) {
    try {
      Checkpoint checkpoint(path);
      const std::int64_t steps = checkpoint.progress().steps;
      require<DataError>(directory.checkpoint(steps) == path, "{}: is the checkpoint of step {}",
                         path.string(), steps);
      for (const std::string& why : broken)
        reports.push_back(fmt::format("{}; using the one before it", why));
      return checkpoint;
    } catch (const DataError& error) {
      broken.emplace_back(error.what());
    }
  }
  require<DataError>(!broken.empty(), "{}: no checkpoint to load", directory.root().string());
  throw DataError(fmt::format("{}: no whole checkpoint to load: {}", directory.root().string(),
                              fmt::join(broken, "; ")));
}

}  // namespace hew::train
