#pragma once

#include "kernels/attention_sizes.h"

namespace hew::kernels::attention {

/// Sizes of one call on a GPU, and where its rows lie; options.scale > 0.
struct Geometry : AttentionSizes {
  using AttentionSizes::AttentionSizes;

  /// Keys that query i sees; i may lie past the last query.
  __device__ std::int64_t visible(std::int64_t i) const {
    const std::int64_t seen = i + keys - queries + 1;
    return causal && seen < keys ? seen : keys;
  }
  /// First query that sees key j.
  __device__ std::int64_t first_query(std::int64_t j) const {
    const std::int64_t first = j - (keys - queries);
    return causal && first > 0 ? first : 0;
  }
  /// Index of element 0 of row t of head h.
  __device__ std::int64_t query_row(std::int64_t b, std::int64_t h, std::int64_t t) const {
    return ((b * queries + t) * heads + h) * width;
  }
  __device__ std::int64_t key_row(std::int64_t b, std::int64_t h, std::int64_t t) const {
    return ((b * keys + t) * key_heads + h) * width;
  }
  /// Index of query t in lse.
  __device__ std::int64_t statistic(std::int64_t b, std::int64_t h, std::int64_t t) const {
    return (b * heads + h) * queries + t;
  }
  __device__ std::int64_t query_stride() const { return heads * width; }
  __device__ std::int64_t key_stride() const { return key_heads * width; }
};

/// What a thread block works on: rows [begin, begin + rows) of one head. Blocks of a head are
/// neighbours.
struct Place {
  __device__ Place(std::int64_t index, std::int64_t tiles, std::int64_t heads, int rows)
      : batch(index / tiles / heads), head(index / tiles % heads), begin(index % tiles * rows) {}

  std::int64_t batch;
  std::int64_t head;
  std::int64_t begin;
};

}  // namespace hew::kernels::attention
