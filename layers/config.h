#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <string_view>
#include <utility>

#include "core/named_enum.h"
#include "kernels/activation.h"

namespace hew::layers {

enum class ModelFamily : std::uint8_t { kGpt2, kLlama, kVit };
/// What a vision transformer's head looks at: the class token, or the mean of all tokens where
/// there is none.
enum class Pooling : std::uint8_t { kClassToken, kMean };

/// Shape of a model, every size filled in but `vocab` or `classes`, which is 0 until the data are
/// known.
struct ModelConfig {
  ModelFamily family = ModelFamily::kGpt2;
  std::int64_t layers = 0;
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t width = 0;
  std::int64_t mlp_width = 0;
  std::int64_t context = 0;  // most tokens of a sequence; of a ViT those of every image
  std::int64_t vocab = 0;
  bool tied_embeddings = true;
  bool bias = true;
  kernels::Activation activation = kernels::Activation::kGeluTanh;  // Llama: of the gate
  double dropout = 0;
  double norm_eps = 1e-5;
  double rope_theta = 10000;  // Llama
  double init_std = 0.02;
  // Of a ViT:
  std::int64_t image_size = 0;  // height and width
  std::int64_t channels = 0;
  std::int64_t patch_size = 0;
  std::int64_t classes = 0;
  Pooling pooling = Pooling::kClassToken;
  double drop_path = 0;  // probability that the last block is skipped; linear over depth
  friend bool operator==(const ModelConfig&, const ModelConfig&) = default;

  std::int64_t head_width() const { return width / heads; }
  bool reads_images() const { return family == ModelFamily::kVit; }
  /// Of a ViT.
  std::int64_t patches() const { return (image_size / patch_size) * (image_size / patch_size); }
  std::int64_t image_tokens() const {
    return patches() + (pooling == Pooling::kClassToken ? 1 : 0);
  }
  /// Of the two projections a block that end in a residual add: 1/√(2·layers) smaller (GPT-2), but
  /// in a ViT.
  double residual_init_std() const {
    return reads_images() ? init_std : init_std / std::sqrt(2.0 * static_cast<double>(layers));
  }
};

}  // namespace hew::layers

namespace hew {

template <>
struct EnumNames<layers::ModelFamily> {
  using E = layers::ModelFamily;
  static constexpr auto kTable = std::to_array<std::pair<E, std::string_view>>(
      {{E::kGpt2, "gpt2"}, {E::kLlama, "llama"}, {E::kVit, "vit"}});
};
template <>
struct EnumNames<layers::Pooling> {
  using E = layers::Pooling;
  static constexpr auto kTable =
      std::to_array<std::pair<E, std::string_view>>({{E::kClassToken, "cls"}, {E::kMean, "mean"}});
};
template <>
struct EnumNames<kernels::Activation> {
  using E = kernels::Activation;
  static constexpr auto kTable = std::to_array<std::pair<E, std::string_view>>(
      {{E::kRelu, "relu"}, {E::kGelu, "gelu"}, {E::kGeluTanh, "gelu_tanh"}, {E::kSilu, "silu"}});
};

}  // namespace hew
