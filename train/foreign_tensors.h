#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/tensor.h"
#include "layers/config.h"

namespace hew::train {

/// A tensor of another program's state dict and the parameters of hew that it holds.
struct ForeignTensor {
  std::string name;
  std::vector<std::string> parts;   // hew's names; their rows, or elements, follow one another
  bool transposed = false;          // theirs is [in, out], as GPT-2's Conv1D has it
  std::optional<Shape> shape = {};  // theirs, where it is another one of the same elements
};

/// What GPT2LMHeadModel, LlamaForCausalLM or timm's VisionTransformer saves for a model of this
/// shape: names, and how parameters lie in tensors. GPT-2 and ViT always have biases there. A tied
/// head is left out.
std::vector<ForeignTensor> foreign_tensors(const layers::ModelConfig& config);

/// The start of the names that may be left out where a model was saved without its head, or "".
std::string foreign_prefix(const layers::ModelConfig& config);

/// A tensor that programs save, or once saved, beside the parameters of this family, and that
/// follows from its shape: causal masks and frequencies.
bool is_foreign_buffer(const std::string& name);

/// Shapes of hew's parameters by name. Biases that the model lacks can be asked for too.
class ParameterShapes {
 public:
  explicit ParameterShapes(std::map<std::string, Shape> shapes) : shapes_(std::move(shapes)) {}

  bool has(const std::string& name) const { return shapes_.contains(name); }
  Shape of(const std::string& name) const;
  /// Of their tensor.
  Shape of(const ForeignTensor& tensor) const;

 private:
  std::map<std::string, Shape> shapes_;
};

/// Values under their shape, from the values of the parts in order.
Tensor packed(const ForeignTensor& tensor, const std::vector<Tensor>& parts);
/// The inverse; `shapes` are those of the parts.
std::vector<Tensor> unpacked(const ForeignTensor& tensor, const Tensor& values,
                             const ParameterShapes& shapes);

}  // namespace hew::train
