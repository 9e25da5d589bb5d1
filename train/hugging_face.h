#pragma once

#include <functional>
#include <string>
#include <vector>

#include "io/safetensors.h"
#include "train/trained_model.h"

namespace hew::train {

/// A tensor under the name that Hugging Face's transformers has for it; its values are made when
/// they are asked for.
struct NamedValues {
  TensorSpec spec;
  std::function<Tensor()> values;
};

/// The state dict of GPT2LMHeadModel, LlamaForCausalLM or timm's VisionTransformer, dead blocks as
/// zeros, as foreign_tensors() says. Biases that the model lacks are zeros. A tied head is left
/// out.
std::vector<NamedValues> hugging_face_tensors(const TrainedModel& trained, DType dtype);

/// config.json of the same. Throws ConfigError where the architecture there cannot express the
/// model: GPT-2 with grouped heads, Llama with an activation other than SiLU, a ViT whose norms
/// have another ε than timm's.
std::string hugging_face_config(const TrainedModel& trained, DType dtype);

}  // namespace hew::train
