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

/// The state dict of GPT2LMHeadModel or LlamaForCausalLM, dead blocks as zeros. GPT-2's q, k and v
/// are one matrix, and its matrices are transposed to Conv1D's [in, out]; where the model has no
/// biases, which GPT-2 there cannot be without, they are zeros. A tied head is left out.
std::vector<NamedValues> hugging_face_tensors(const TrainedModel& trained, DType dtype);

/// config.json of the same. Throws ConfigError where the architecture there cannot express the
/// model: GPT-2 with grouped heads, Llama with an activation other than SiLU.
std::string hugging_face_config(const TrainedModel& trained, DType dtype);

}  // namespace hew::train
