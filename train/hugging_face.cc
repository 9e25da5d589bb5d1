#include "train/hugging_face.h"

#include <array>
#include <map>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "data/tokenizer.h"
#include "kernels/permute.h"
#include "train/model_file.h"

namespace hew::train {
namespace {

// Values that are made when they are asked for.
struct Source {
  Shape shape;
  std::function<Tensor()> values;
};

Source transposed(const Source& matrix) {
  return {.shape = {matrix.shape[1], matrix.shape[0]}, .values = [matrix] {
            const Tensor in = matrix.values();
            Tensor out = Tensor::empty({in.size(1), in.size(0)}, in.dtype(), in.stream());
            kernels::permute(in, std::array{1, 0}, out, in.stream());
            return out;
          }};
}

// The rows, or elements, of three of one shape after one another.
Source joined(const std::array<Source, 3>& parts) {
  const Shape& one = parts.front().shape;
  const Shape shape = one.rank() == 1 ? Shape{3 * one[0]} : Shape{3 * one[0], one[1]};
  return {.shape = shape, .values = [parts, shape] {
            const Tensor first = parts.front().values();
            Tensor out = Tensor::empty(shape, first.dtype(), first.stream());
            std::int64_t begin = 0;
            for (const Source& part : parts) {
              out.rows(begin, part.shape[0]).copy_from(part.values());
              begin += part.shape[0];
            }
            return out;
          }};
}

// The model's tensors by hew's names, and those of the state dict as they are added.
class Translation {
 public:
  Translation(layers::Model& model, DType dtype) : dtype_(dtype) {
    for (const ag::Parameter* p : model.parameters()) {
      sources_[p->name] = {.shape = p->value().shape(), .values = [p] { return p->value(); }};
    }
    for (const sparsity::LinearWeight* w : model.linear_weights()) {
      sources_[w->name()] = {.shape = {w->out_features(), w->in_features()},
                             .values = [w] { return w->folded(); }};
    }
  }

  const Source& matrix(const std::string& layer) const { return sources_.at(layer + ".weight"); }
  bool has_bias(const std::string& layer) const { return sources_.contains(layer + ".bias"); }
  // The layer's bias; zeros where it has none.
  Source bias(const std::string& layer) const {
    const auto found = sources_.find(layer + ".bias");
    if (found != sources_.end())
      return found->second;
    const Source& weight = matrix(layer);
    return {.shape = {weight.shape[0]}, .values = [weight] {
              const Tensor like = weight.values();
              return Tensor::zeros({like.size(0)}, like.dtype(), like.stream());
            }};
  }

  void add(const std::string& name, const Source& source) {
    tensors_.push_back(
        {.spec = {.name = name, .dtype = dtype_, .shape = source.shape},
         .values = [make = source.values, dtype = dtype_] { return converted(make(), dtype); }});
  }
  std::vector<NamedValues> take() { return std::move(tensors_); }

 private:
  DType dtype_;
  std::map<std::string, Source> sources_;
  std::vector<NamedValues> tensors_;
};

void add_gpt2_layer(Translation& t, const std::string& from, const std::string& to) {
  for (const auto& [theirs, ours] : {std::pair(".ln_1", ".norm1"), std::pair(".ln_2", ".norm2")}) {
    t.add(to + theirs + ".weight", t.matrix(from + ours));
    t.add(to + theirs + ".bias", t.bias(from + ours));
  }
  const std::string q = from + ".attn.q";
  const std::string k = from + ".attn.k";
  const std::string v = from + ".attn.v";
  t.add(to + ".attn.c_attn.weight", transposed(joined({t.matrix(q), t.matrix(k), t.matrix(v)})));
  t.add(to + ".attn.c_attn.bias", joined({t.bias(q), t.bias(k), t.bias(v)}));
  for (const auto& [theirs, ours] :
       {std::pair(".attn.c_proj", ".attn.out"), std::pair(".mlp.c_fc", ".mlp.up"),
        std::pair(".mlp.c_proj", ".mlp.down")}) {
    t.add(to + theirs + ".weight", transposed(t.matrix(from + ours)));
    t.add(to + theirs + ".bias", t.bias(from + ours));
  }
}

void add_gpt2(Translation& t, const layers::ModelConfig& config) {
  t.add("transformer.wte.weight", t.matrix("token_embedding"));
  t.add("transformer.wpe.weight", t.matrix("position_embedding"));
  for (std::int64_t i = 0; i < config.layers; ++i) {
    add_gpt2_layer(t, fmt::format("blocks.{}", i), fmt::format("transformer.h.{}", i));
  }
  t.add("transformer.ln_f.weight", t.matrix("final_norm"));
  t.add("transformer.ln_f.bias", t.bias("final_norm"));
}

void add_llama(Translation& t, const layers::ModelConfig& config) {
  constexpr std::array<std::pair<const char*, const char*>, 9> kLayers{{
      {".input_layernorm", ".norm1"},
      {".self_attn.q_proj", ".attn.q"},
      {".self_attn.k_proj", ".attn.k"},
      {".self_attn.v_proj", ".attn.v"},
      {".self_attn.o_proj", ".attn.out"},
      {".post_attention_layernorm", ".norm2"},
      {".mlp.gate_proj", ".mlp.gate"},
      {".mlp.up_proj", ".mlp.up"},
      {".mlp.down_proj", ".mlp.down"},
  }};
  t.add("model.embed_tokens.weight", t.matrix("token_embedding"));
  for (std::int64_t i = 0; i < config.layers; ++i) {
    for (const auto& [theirs, ours] : kLayers) {
      const std::string from = fmt::format("blocks.{}{}", i, ours);
      const std::string to = fmt::format("model.layers.{}{}", i, theirs);
      t.add(to + ".weight", t.matrix(from));
      if (t.has_bias(from))
        t.add(to + ".bias", t.bias(from));
    }
  }
  t.add("model.norm.weight", t.matrix("final_norm"));
}

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
  const layers::ModelConfig& config = trained.recipe.model;
  Translation translation(*trained.parts.model, dtype);
  if (config.family == layers::ModelFamily::kLlama) {
    add_llama(translation, config);
  } else {
    add_gpt2(translation, config);
  }
  if (!config.tied_embeddings)
    translation.add("lm_head.weight", translation.matrix("head"));
  return translation.take();
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
