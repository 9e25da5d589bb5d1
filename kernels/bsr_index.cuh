#pragma once

#include <cstdint>

namespace hew::kernels {

/// The block row of live block p: the last r with crow[r] ≤ p.
__device__ inline std::int64_t block_row_of(const std::int32_t* crow, std::int64_t block_rows,
                                            std::int64_t p) {
  std::int64_t low = 0;
  std::int64_t high = block_rows;
  while (high - low > 1) {
    const std::int64_t middle = (low + high) / 2;
    if (crow[middle] <= p) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

/// The live block in block (r, c), or −1.
__device__ inline std::int64_t live_block_at(const std::int32_t* crow, const std::int32_t* col,
                                             std::int64_t r, std::int64_t c) {
  std::int64_t low = crow[r];
  std::int64_t high = crow[r + 1];
  const std::int64_t end = high;
  while (low < high) {
    const std::int64_t middle = (low + high) / 2;
    if (col[middle] < c) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low < end && col[low] == c ? low : -1;
}

}  // namespace hew::kernels
