#include "train/hugging_face.h"

#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/error.h"
#include "data/tokenizer.h"
#include "train/foreign_tensors.h"
#include "train/model_file.h"

namespace hew::train {
namespace {

// The model's parameters by name, dead blocks as zeros, made when they are asked for.
class Values {
 public:
  explicit Values(layers::Model& model) {
    std::map<std::string, Shape> shapes;
    for (const ag::Parameter* p : model.parameters()) {
      shapes[p->name] = p->value().shape();
      values_[p->name] = [p] { return p->value(); };
    }
    for (const sparsity::LinearWeight* w : model.linear_weights()) {
      shapes[w->name()] = {w->out_features(), w->in_features()};
      values_[w->name()] = [w] { return w->folded(); };
    }
    shapes_.emplace(std::move(shapes));
    like_ = model.parameters().front()->value();
  }

  const ParameterShapes& shapes() const { return *shapes_; }
  // Zeros for a bias that the model lacks.
  Tensor of(const std::string& name) const {
    return shapes_->has(name) ? values_.at(name)()
                              : Tensor::zeros(shapes_->of(name), like_.dtype(), like_.stream());
  }

 private:
  std::optional<ParameterShapes> shapes_;
  std::map<std::string, std::function<Tensor()>> values_;
  Tensor like_;
};

std::string_view activation_name(kernels::Activation activation) {
  switch (activation) {
    case kernels::Activation::kGelu:
      return "gelu";
    case kernels::Activation::kGeluTanh:
      return "gelu_new";
    case kernels::Activation::kSilu:
      return "silu";
    case kernels::Activation::kRelu:
      return "relu";
    case kernels::Activation::kNone:
      break;
  }
  throw ConfigError("model.activation: Hugging Face has no name for it");
}

nlohmann::ordered_json gpt2_config(const layers::ModelConfig& m) {
  require<ConfigError>(m.kv_heads == m.heads,
                       "model.kv_heads: {} for {} heads; GPT-2 in Hugging Face has no grouped "
                       "heads",
                       m.kv_heads, m.heads);
  return {{"architectures", {"GPT2LMHeadModel"}},
          {"model_type", "gpt2"},
          {"vocab_size", m.vocab},
          {"n_positions", m.context},
          {"n_embd", m.width},
          {"n_layer", m.layers},
          {"n_head", m.heads},
          {"n_inner", m.mlp_width},
          {"activation_function", activation_name(m.activation)},
          {"resid_pdrop", m.dropout},
          {"embd_pdrop", m.dropout},
          {"attn_pdrop", 0.0},
          {"layer_norm_epsilon", m.norm_eps},
          {"initializer_range", m.init_std},
          {"scale_attn_weights", true}};
}

nlohmann::ordered_json llama_config(const layers::ModelConfig& m) {
  require<ConfigError>(m.activation == kernels::Activation::kSilu,
                       "model.activation: {} in a llama, expected silu", name_of(m.activation));
  return {{"architectures", {"LlamaForCausalLM"}},
          {"model_type", "llama"},
          {"vocab_size", m.vocab},
          {"max_position_embeddings", m.context},
          {"hidden_size", m.width},
          {"intermediate_size", m.mlp_width},
          {"num_hidden_layers", m.layers},
          {"num_attention_heads", m.heads},
          {"num_key_value_heads", m.kv_heads},
          {"head_dim", m.head_width()},
          {"hidden_act", activation_name(m.activation)},
          {"rms_norm_eps", m.norm_eps},
          {"rope_theta", m.rope_theta},
          {"attention_bias", m.bias},
          {"mlp_bias", m.bias},
          {"attention_dropout", 0.0},
          {"initializer_range", m.init_std}};
}

// Theirs default to ids that a small vocabulary does not have.
nlohmann::ordered_json end_of_text(const TokenizerRecord& tokenizer) {
  if (tokenizer.kind.empty())
    return nullptr;
  const auto token = make_tokenizer(tokenizer.kind, tokenizer.blob)->end_of_text();
  return token ? nlohmann::ordered_json(*token) : nlohmann::ordered_json(nullptr);
}

}  // namespace

std::vector<NamedValues> hugging_face_tensors(const TrainedModel& trained, DType dtype) {
  const auto values = std::make_shared<const Values>(*trained.parts.model);
  std::vector<NamedValues> out;
  for (const ForeignTensor& tensor : foreign_tensors(trained.recipe.model)) {
    out.push_back(
        {.spec = {.name = tensor.name, .dtype = dtype, .shape = values->shapes().of(tensor)},
         .values = [values, tensor, dtype] {
           std::vector<Tensor> parts;
           for (const std::string& part : tensor.parts) parts.push_back(values->of(part));
           return converted(packed(tensor, parts), dtype);
         }});
  }
  return out;
}

std::string hugging_face_config(const TrainedModel& trained, DType dtype) {
  const layers::ModelConfig& config = trained.recipe.model;
  nlohmann::ordered_json object =
      config.family == layers::ModelFamily::kLlama ? llama_config(config) : gpt2_config(config);
  object["tie_word_embeddings"] = config.tied_embeddings;
  object["bos_token_id"] = end_of_text(trained.data.tokenizer);
  object["eos_token_id"] = object["bos_token_id"];
  object["pad_token_id"] = nullptr;
  object["use_cache"] = true;
  object["torch_dtype"] = name_of(dtype);
  return object.dump(2) + "\n";
}

}  // namespace hew::train
