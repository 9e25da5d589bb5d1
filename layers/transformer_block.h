#pragma once

#include <memory>
#include <string>
#include <vector>

#include "layers/attention.h"
#include "layers/config.h"
#include "layers/mlp.h"
#include "layers/norm.h"

namespace hew::layers {

/// The norms of a model: RMSNorm in Llama, else LayerNorm.
Norm::Options norm_options(const ModelConfig& config);

/// What is dropped from activations while training.
struct DropRates {
  double element = 0;  // probability of dropout
  double sample = 0;   // of stochastic depth
};
/// x with elements and samples dropped. They are numbered by the global batch: x has `tokens` rows
/// a sample.
ag::Variable drop(const ag::Variable& x, const DropRates& rates, std::int64_t tokens,
                  ag::ForwardContext& context);

/// The residual stream x + branch, not yet added: the next norm does that in passing. The branch
/// may be undefined.
struct Residual {
  ag::Variable x;
  ag::Variable branch;
};

/// One pre-norm transformer block: x += attn(norm1(x)); x += mlp(norm2(x)), dropout and stochastic
/// depth on both branches.
class TransformerBlock {
 public:
  /// `depth` from 0, the first, to 1, the last.
  TransformerBlock(const std::string& name, double depth, const ModelConfig& config,
                   const Initializer& init);

  Residual forward(const Residual& in, const SequenceShape& shape, KvCache::Layer* cache,
                   std::int64_t cache_capacity, ag::ForwardContext& context) const;
  void collect_parameters(std::vector<ag::Parameter*>& out);
  void collect_weights(std::vector<sparsity::LinearWeight*>& out);
  const std::string& name() const { return name_; }

  static constexpr std::uint64_t kDropoutCalls = 2;

 private:
  std::string name_;
  DropRates drop_;
  Norm norm1_;
  SelfAttention attention_;
  Norm norm2_;
  Mlp mlp_;
};

/// The blocks of a model, one after another.
class TransformerBlocks {
 public:
  /// blocks.0 … blocks.(layers − 1)
  TransformerBlocks(const ModelConfig& config, const Initializer& init);

  /// With a cache, `in` goes on behind what it holds, and it must have room; it is not yet longer
  /// afterwards. Training may compute the blocks' insides once more in the backward pass (context).
  Residual forward(const ag::Variable& in, const SequenceShape& shape, KvCache* cache,
                   ag::ForwardContext& context) const;
  void collect_parameters(std::vector<ag::Parameter*>& out);
  void collect_weights(std::vector<sparsity::LinearWeight*>& out);

 private:
  std::vector<std::unique_ptr<TransformerBlock>> blocks_;
};

}  // namespace hew::layers
