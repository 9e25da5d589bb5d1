#include "train/foreign_tensors.h"

#include <fmt/format.h>

#include <array>
#include <utility>

#include "kernels/permute.h"

namespace hew::train {
namespace {

using layers::ModelConfig;
using layers::ModelFamily;

struct NamePair {
  const char* theirs;
  const char* ours;
};

// Conv1D matrices have names that start with c_.
void add_gpt2_block(std::vector<ForeignTensor>& out, const std::string& ours,
                    const std::string& theirs) {
  constexpr std::array<NamePair, 5> kLayers{{{".ln_1", ".norm1"},
                                             {".ln_2", ".norm2"},
                                             {".attn.c_proj", ".attn.out"},
                                             {".mlp.c_fc", ".mlp.up"},
                                             {".mlp.c_proj", ".mlp.down"}}};
  for (const char* kind : {".weight", ".bias"}) {
    const bool matrix = kind == std::string(".weight");
    for (const auto& [there, here] : kLayers) {
      const bool conv = std::string(there).find(".c_") != std::string::npos;
      out.push_back({.name = theirs + there + kind,
                     .parts = {ours + here + kind},
                     .transposed = matrix && conv});
    }
    out.push_back(
        {.name = theirs + ".attn.c_attn" + kind,
         .parts = {ours + ".attn.q" + kind, ours + ".attn.k" + kind, ours + ".attn.v" + kind},
         .transposed = matrix});
  }
}

std::vector<ForeignTensor> gpt2_tensors(const ModelConfig& config) {
  std::vector<ForeignTensor> out{
      {.name = "transformer.wte.weight", .parts = {"token_embedding.weight"}},
      {.name = "transformer.wpe.weight", .parts = {"position_embedding.weight"}}};
  for (std::int64_t i = 0; i < config.layers; ++i) {
    add_gpt2_block(out, fmt::format("blocks.{}", i), fmt::format("transformer.h.{}", i));
  }
  out.push_back({.name = "transformer.ln_f.weight", .parts = {"final_norm.weight"}});
  out.push_back({.name = "transformer.ln_f.bias", .parts = {"final_norm.bias"}});
  return out;
}

std::vector<ForeignTensor> llama_tensors(const ModelConfig& config) {
  constexpr std::array<NamePair, 9> kLayers{{
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
  std::vector<ForeignTensor> out{
      {.name = "model.embed_tokens.weight", .parts = {"token_embedding.weight"}}};
  for (std::int64_t i = 0; i < config.layers; ++i) {
    for (const auto& [theirs, ours] : kLayers) {
      out.push_back({.name = fmt::format("model.layers.{}", i) + theirs + ".weight",
                     .parts = {fmt::format("blocks.{}", i) + ours + ".weight"}});
    }
  }
  out.push_back({.name = "model.norm.weight", .parts = {"final_norm.weight"}});
  return out;
}

// timm's VisionTransformer: q, k and v are one matrix, the patches' weight is a convolution's, and
// class token and positions have an axis for the batch.
std::vector<ForeignTensor> vit_tensors(const ModelConfig& config) {
  constexpr std::array<NamePair, 5> kLayers{{{".norm1", ".norm1"},
                                             {".norm2", ".norm2"},
                                             {".attn.proj", ".attn.out"},
                                             {".mlp.fc1", ".mlp.up"},
                                             {".mlp.fc2", ".mlp.down"}}};
  std::vector<ForeignTensor> out;
  if (config.pooling == layers::Pooling::kClassToken) {
    out.push_back(
        {.name = "cls_token", .parts = {"class_token"}, .shape = Shape{1, 1, config.width}});
  }
  out.push_back({.name = "pos_embed",
                 .parts = {"position_embedding.weight"},
                 .shape = Shape{1, config.context, config.width}});
  out.push_back(
      {.name = "patch_embed.proj.weight",
       .parts = {"patch_embedding.weight"},
       .shape = Shape{config.width, config.channels, config.patch_size, config.patch_size}});
  out.push_back({.name = "patch_embed.proj.bias", .parts = {"patch_embedding.bias"}});
  for (const char* kind : {".weight", ".bias"}) {
    for (std::int64_t i = 0; i < config.layers; ++i) {
      const std::string block = fmt::format("blocks.{}", i);
      for (const auto& [theirs, ours] : kLayers) {
        out.push_back({.name = block + theirs + kind, .parts = {block + ours + kind}});
      }
      const std::string attention = block + ".attn.";
      out.push_back(
          {.name = attention + "qkv" + kind,
           .parts = {attention + "q" + kind, attention + "k" + kind, attention + "v" + kind}});
    }
    out.push_back(
        {.name = std::string("norm") + kind, .parts = {std::string("final_norm") + kind}});
    out.push_back({.name = std::string("head") + kind, .parts = {std::string("head") + kind}});
  }
  return out;
}

Tensor transposed(const Tensor& matrix) {
  Tensor out = Tensor::empty({matrix.size(1), matrix.size(0)}, matrix.dtype(), matrix.stream());
  kernels::permute(matrix, std::array{1, 0}, out, matrix.stream());
  return out;
}

Shape with_rows(const Shape& shape, std::int64_t rows) {
  std::vector<std::int64_t> extents(shape.begin(), shape.end());
  extents[0] = rows;
  return Shape(extents);
}

}  // namespace

std::vector<ForeignTensor> foreign_tensors(const ModelConfig& config) {
  if (config.family == ModelFamily::kVit)
    return vit_tensors(config);
  std::vector<ForeignTensor> out =
      config.family == ModelFamily::kLlama ? llama_tensors(config) : gpt2_tensors(config);
  if (!config.tied_embeddings)
    out.push_back({.name = "lm_head.weight", .parts = {"head.weight"}});
  return out;
}

std::string foreign_prefix(const ModelConfig& config) {
  switch (config.family) {
    case ModelFamily::kGpt2:
      return "transformer.";
    case ModelFamily::kLlama:
      return "model.";
    case ModelFamily::kVit:
      break;
  }
  return "";
}

bool is_foreign_buffer(const std::string& name) {
  for (const char* end : {".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq"}) {
    if (name.ends_with(end))
      return true;
  }
  return false;
}

Shape ParameterShapes::of(const std::string& name) const {
  constexpr std::string_view kBias = ".bias";
  if (has(name) || !name.ends_with(kBias))
    return shapes_.at(name);
  return {shapes_.at(name.substr(0, name.size() - kBias.size()) + ".weight")[0]};
}

Shape ParameterShapes::of(const ForeignTensor& tensor) const {
  if (tensor.shape)
    return *tensor.shape;
  std::int64_t rows = 0;
  for (const std::string& part : tensor.parts) rows += of(part)[0];
  const Shape joined = with_rows(of(tensor.parts.front()), rows);
  return tensor.transposed ? Shape{joined[1], joined[0]} : joined;
}

Tensor packed(const ForeignTensor& tensor, const std::vector<Tensor>& parts) {
  Tensor out = parts.front();
  if (parts.size() > 1) {
    std::int64_t rows = 0;
    for (const Tensor& part : parts) rows += part.size(0);
    out = Tensor::empty(with_rows(out.shape(), rows), out.dtype(), out.stream());
    std::int64_t begin = 0;
    for (const Tensor& part : parts) {
      out.rows(begin, part.size(0)).copy_from(part);
      begin += part.size(0);
    }
  }
  if (tensor.transposed)
    out = transposed(out);
  return tensor.shape ? out.reshape(*tensor.shape) : out;
}

std::vector<Tensor> unpacked(const ForeignTensor& tensor, const Tensor& values,
                             const ParameterShapes& shapes) {
  if (tensor.shape)
    return {values.reshape(shapes.of(tensor.parts.front()))};
  const Tensor all = tensor.transposed ? transposed(values) : values;
  if (tensor.parts.size() == 1)
    return {all};
  std::vector<Tensor> out;
  std::int64_t begin = 0;
  for (const std::string& part : tensor.parts) {
    const std::int64_t rows = shapes.of(part)[0];
    out.push_back(all.rows(begin, rows).clone());
    begin += rows;
  }
  return out;
}

}  // namespace hew::train
