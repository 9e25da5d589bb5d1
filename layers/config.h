#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <string_view>
#include <utility>

#include "core/named_enum.h"
#include "kernels/activation.h"

namespace hew::layers {

enum class ModelFamily : std::uint8_t { kGpt2, kLlama };

/// Shape of a model, every size filled in but `vocab`, which is 0 until the corpus is known.
struct ModelConfig {
  ModelFamily family = ModelFamily::kGpt2;
  std::int64_t layers = 0;
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t width = 0;
  std::int64_t mlp_width = 0;
  std::int64_t context = 0;
  std::int64_t vocab = 0;
  bool tied_embeddings = true;
  bool bias = true;
  kernels::Activation activation = kernels::Activation::kGeluTanh;  // Llama: of the gate
  double dropout = 0;
  double norm_eps = 1e-5;
  double rope_theta = 10000;  // Llama
  double init_std = 0.02;
  friend bool operator==(const ModelConfig&, const ModelConfig&) = default;

  std::int64_t head_width() const { return width / heads; }
  /// Of the two projections a block that end in a residual add: 1/√(2·layers) smaller (GPT-2).
  double residual_init_std() const {
    return init_std / std::sqrt(2.0 * static_cast<double>(layers));
  }
};

}  // namespace hew::layers

namespace hew {

template <>
struct EnumNames<layers::ModelFamily> {
  using E = layers::ModelFamily;
  static constexpr auto kTable =
      std::to_array<std::pair<E, std::string_view>>({{E::kGpt2, "gpt2"}, {E::kLlama, "llama"}});
};
template <>
struct EnumNames<kernels::Activation> {
  using E = kernels::Activation;
  static constexpr auto kTable = std::to_array<std::pair<E, std::string_view>>(
      {{E::kRelu, "relu"}, {E::kGelu, "gelu"}, {E::kGeluTanh, "gelu_tanh"}, {E::kSilu, "silu"}});
};

}  // namespace hew
