#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "train/trained_model.h"

namespace hew::train {

/// How the model is to differ from the folder's.
struct ImportOptions {
  std::optional<std::int64_t> vocab = {};    // rows added to embedding and head are their mean row
  std::optional<std::int64_t> context = {};  // a shorter one: the first positions are kept
  bool tokenizer = true;                     // take the folder's, where hew has its kind
  // Of a ViT:
  std::optional<std::int64_t> image_size = {};  // positions are resized
  std::optional<std::int64_t> classes = {};     // another number than the folder's: a new head
};

/// The model in a folder of Hugging Face's: config.json and model.safetensors, or its shards, of
/// GPT2LMHeadModel, LlamaForCausalLM, timm's VisionTransformer, or of the same without a head of
/// their own. Weights are float32, whatever they were. Its recipe is one of no steps: its `model`
/// section is what a run that starts here needs, the rest fills the places of required keys. Its
/// warnings say what hew does not do as the folder asks. Throws DataError naming file and key or
/// tensor, also where one is missing, left over or of another shape, and ConfigError.
TrainedModel import_model(const std::filesystem::path& folder, const ImportOptions& options = {});

/// The recipe's `model` section, and of a ViT what it must know of images, as YAML for another
/// recipe.
std::string model_section(const Recipe& recipe);

}  // namespace hew::train
