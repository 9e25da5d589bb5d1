#pragma once

#include "layers/language_model.h"
#include "tests/support/device.h"

namespace hew::test {

struct SmallModel {
  layers::ModelFamily family = layers::ModelFamily::kGpt2;
  std::int64_t context = 0;
  double init_std = 0.3;  // large, so that logits differ
  DType dtype = DType::kFloat64;

  static constexpr std::int64_t kVocab = 37;
};

/// Two layers of width 12 on the tests' device; in Llama two heads share a key.
inline layers::LanguageModel make_model(const SmallModel& model) {
  const bool llama = model.family == layers::ModelFamily::kLlama;
  return {{.family = model.family,
           .layers = 2,
           .heads = 2,
           .kv_heads = llama ? 1 : 2,
           .width = 12,
           .mlp_width = 20,
           .context = model.context,
           .vocab = SmallModel::kVocab,
           .bias = !llama,
           .activation = llama ? kernels::Activation::kSilu : kernels::Activation::kGeluTanh,
           .dropout = 0.3,
           .init_std = model.init_std},
          {.seed = 5, .dtype = model.dtype, .stream = test_stream()}};
}

}  // namespace hew::test
