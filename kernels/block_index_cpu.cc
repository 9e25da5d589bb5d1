#include <algorithm>
#include <vector>

#include "kernels/block_index.h"

namespace hew::kernels {

void index_blocks(Cpu /*backend*/, const BlockIndexArgs& args) {
  const std::int64_t block_rows = args.mask.shape[0];
  const std::int64_t block_cols = args.mask.shape[1];
  const auto* mask = args.mask.as<std::uint8_t>();
  const std::int64_t live =
      std::count_if(mask, mask + args.mask.numel(), [](std::uint8_t m) { return m != 0; });
  require<ShapeError>(live == args.col.numel(), "[index_blocks] {} live blocks, expected {}", live,
                      args.col.numel());
  auto* crow = args.crow.as<std::int32_t>();
  auto* ccol = args.ccol.as<std::int32_t>();
  auto* col = args.col.as<std::int32_t>();
  std::fill_n(ccol, block_cols + 1, 0);
  std::int32_t p = 0;
  for (std::int64_t r = 0; r < block_rows; ++r) {
    crow[r] = p;
    for (std::int64_t c = 0; c < block_cols; ++c) {
      if (mask[r * block_cols + c] == 0)
        continue;
      col[p++] = static_cast<std::int32_t>(c);
      ++ccol[c + 1];
    }
  }
  crow[block_rows] = p;
  for (std::int64_t c = 0; c < block_cols; ++c) ccol[c + 1] += ccol[c];
  // Row by row, each block is the next of its column.
  std::vector<std::int32_t> next(ccol, ccol + block_cols);
  for (std::int64_t r = 0; r < block_rows; ++r) {
    for (std::int32_t i = crow[r]; i < crow[r + 1]; ++i) {
      const std::int32_t q = next[static_cast<std::size_t>(col[i])]++;
      args.row.as<std::int32_t>()[q] = static_cast<std::int32_t>(r);
      args.position.as<std::int32_t>()[q] = i;
    }
  }
}

}  // namespace hew::kernels
