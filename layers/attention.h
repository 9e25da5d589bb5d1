#pragma once

#include <string>
#include <vector>

#include "layers/config.h"
#include "layers/kv_cache.h"
#include "layers/linear.h"

namespace hew::layers {

/// Sequences in a batch of tokens: x has B·T rows, row b·T + t is token t of sequence b.
struct SequenceShape {
  std::int64_t batch = 0;     // B
  std::int64_t tokens = 0;    // T
  std::int64_t position = 0;  // of the first token; above 0 only with a cache
};

/// Self-attention with grouped heads: out(attention(q(x), k(x), v(x))), causal but in a ViT, Llama
/// with rotary positions on q and k. Parameters `<name>.{q,k,v,out}.{weight,bias}`.
class SelfAttention {
 public:
  SelfAttention(const std::string& name, const ModelConfig& config, const Initializer& init);

  /// x [B·T, C] → [B·T, C]. With a cache B must be 1: keys and values of x are appended to it and
  /// attention runs over all it holds.
  ag::Variable forward(const ag::Variable& x, const SequenceShape& shape, KvCache::Layer* cache,
                       std::int64_t cache_capacity, const ag::ForwardContext& context) const;

  void collect_parameters(std::vector<ag::Parameter*>& out);
  void collect_weights(std::vector<sparsity::LinearWeight*>& out);

 private:
  std::int64_t heads_;
  std::int64_t kv_heads_;
  std::int64_t head_width_;
  bool causal_;
  bool rotary_;
  double rope_theta_;
  Linear q_;
  Linear k_;
  Linear v_;
  Linear out_;
};

}  // namespace hew::layers
