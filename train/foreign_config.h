#pragma once

#include <nlohmann/json.hpp>

#include "layers/config.h"
#include "train/json_fields.h"

namespace hew::train {

/// The architecture's part of config.json for GPT2LMHeadModel or LlamaForCausalLM. Throws
/// ConfigError where the architecture there cannot express the model: GPT-2 with grouped heads,
/// Llama with an activation other than SiLU.
nlohmann::ordered_json foreign_config(const layers::ModelConfig& config);

/// The inverse. Throws DataError naming file and key for an architecture that hew does not have,
/// and for what hew's cannot express: scaled rotary embeddings, biases in Llama, heads of a width
/// of their own, attention scaled by layer.
layers::ModelConfig read_foreign_config(const JsonFields& config);

}  // namespace hew::train
