#pragma once

#include "kernels/attention.h"

namespace hew::kernels {

/// Sizes of one call; q is [B, Tq, H, D] and k [B, Tk, Hkv, D].
struct AttentionSizes {
  AttentionSizes(const ConstView& q, const ConstView& k, const AttentionOptions& options)
      : batch(q.shape[0]),
        queries(q.shape[1]),
        keys(k.shape[1]),
        heads(q.shape[2]),
        key_heads(k.shape[2]),
        width(static_cast<int>(q.shape[3])),
        causal(options.causal),
        scale(options.scale) {}

  constexpr std::int64_t group() const { return heads / key_heads; }

  std::int64_t batch;
  std::int64_t queries;
  std::int64_t keys;
  std::int64_t heads;
  std::int64_t key_heads;
  int width;
  bool causal;
  double scale;
};

}  // namespace hew::kernels
