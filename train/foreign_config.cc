#include "train/foreign_config.h"

#include <array>
#include <string_view>
#include <utility>

#include "core/error.h"

namespace hew::train {
namespace {

using kernels::Activation;
using layers::ModelConfig;
using layers::ModelFamily;
using nlohmann::ordered_json;

// Of several names for one activation the first is written.
constexpr std::array<std::pair<Activation, std::string_view>, 7> kActivations{
    {{Activation::kGelu, "gelu"},
     {Activation::kGeluTanh, "gelu_new"},
     {Activation::kGeluTanh, "gelu_pytorch_tanh"},
     {Activation::kGeluTanh, "gelu_fast"},
     {Activation::kSilu, "silu"},
     {Activation::kSilu, "swish"},
     {Activation::kRelu, "relu"}}};

std::string_view activation_name(Activation activation) {
  for (const auto& [ours, theirs] : kActivations) {
    if (ours == activation)
      return theirs;
  }
  throw ConfigError("model.activation: Hugging Face has no name for it");
}

Activation read_activation(const JsonFields& config, const std::string& key,
                           const std::string& fallback) {
  const std::string name = config.text_or(key, fallback);
  for (const auto& [ours, theirs] : kActivations) {
    if (theirs == name)
      return ours;
  }
  config.refuse(key, "gelu, gelu_new, silu or relu");
}

ordered_json gpt2_config(const ModelConfig& m) {
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

ordered_json llama_config(const ModelConfig& m) {
  require<ConfigError>(m.activation == Activation::kSilu,
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

void require_whole_heads(const JsonFields& config, const std::string& key,
                         const ModelConfig& model) {
  if (model.width % model.heads != 0)
    config.refuse(key, fmt::format("a divisor of the width of {}", model.width));
}

ModelConfig read_gpt2(const JsonFields& config) {
  config.expect("scale_attn_weights", true);
  config.expect("scale_attn_by_inverse_layer_idx", false);
  config.expect("add_cross_attention", false);
  ModelConfig model{.family = ModelFamily::kGpt2,
                    .layers = config.size("n_layer"),
                    .heads = config.size("n_head"),
                    .width = config.size("n_embd"),
                    .context = config.size("n_positions"),
                    .vocab = config.size("vocab_size"),
                    .tied_embeddings = config.flag_or("tie_word_embeddings", true),
                    .bias = true,
                    .activation = read_activation(config, "activation_function", "gelu_new"),
                    .dropout = config.number_or("resid_pdrop", 0.1),
                    .norm_eps = config.number_or("layer_norm_epsilon", 1e-5),
                    .init_std = config.number_or("initializer_range", 0.02)};
  model.kv_heads = model.heads;
  model.mlp_width = config.size_or("n_inner", 4 * model.width);
  require_whole_heads(config, "n_head", model);
  return model;
}

// The base of the rotary embedding: a key of its own, or, newer, in rope_parameters.
double read_rope_theta(const JsonFields& config) {
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const JsonFields scaling = config.object(key);
    scaling.expect("rope_type", "default");
    scaling.expect("type", "default");
  }
  return config.object("rope_parameters")
      .number_or("rope_theta", config.number_or("rope_theta", 10000));
}

ModelConfig read_llama(const JsonFields& config) {
  config.expect("hidden_act", "silu");
  config.expect("attention_bias", false);
  config.expect("mlp_bias", false);
  ModelConfig model{.family = ModelFamily::kLlama,
                    .layers = config.size("num_hidden_layers"),
                    .heads = config.size("num_attention_heads"),
                    .width = config.size("hidden_size"),
                    .mlp_width = config.size("intermediate_size"),
                    .context = config.size("max_position_embeddings"),
                    .vocab = config.size("vocab_size"),
                    .tied_embeddings = config.flag_or("tie_word_embeddings", false),
                    .bias = false,
                    .activation = Activation::kSilu,
                    .norm_eps = config.number_or("rms_norm_eps", 1e-6),
                    .rope_theta = read_rope_theta(config),
                    .init_std = config.number_or("initializer_range", 0.02)};
  require_whole_heads(config, "num_attention_heads", model);
  model.kv_heads = config.size_or("num_key_value_heads", model.heads);
  if (model.heads % model.kv_heads != 0)
    config.refuse("num_key_value_heads", fmt::format("a divisor of {}", model.heads));
  if (model.head_width() % 2 != 0)
    config.refuse("num_attention_heads", "heads of an even width");
  if (config.size_or("head_dim", model.head_width()) != model.head_width())
    config.refuse("head_dim",
                  fmt::format("hidden_size / num_attention_heads = {}", model.head_width()));
  return model;
}

}  // namespace

ordered_json foreign_config(const ModelConfig& config) {
  return config.family == ModelFamily::kLlama ? llama_config(config) : gpt2_config(config);
}

ModelConfig read_foreign_config(const JsonFields& config) {
  const std::string type = config.text_or("model_type", "");
  if (type == "gpt2")
    return read_gpt2(config);
  if (type == "llama")
    return read_llama(config);
  config.refuse("model_type", "gpt2 or llama, or an architecture of timm's");
}

}  // namespace hew::train
