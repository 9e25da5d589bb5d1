#include "kernels/bsr_long_rows.h"

#include <algorithm>

#include "kernels/bsr_schedule.h"

namespace hew::kernels {
namespace {

// Where parts of a row are worth the way of their sums through device memory: the longest has kLong
// times the mean's steps at least, and many.
constexpr std::int64_t kLong = 3;
constexpr std::int64_t kLongSteps = 48;
constexpr std::int64_t kMostParts = 8;  // whose sums take at most 4 MiB a row for 1024 tokens
static_assert(kMostParts <= RowPart::kMost);
constexpr std::int64_t kLeastPart = 16;
// An H100's, for 256 tokens a tile of 16-bit elements.
constexpr std::int64_t kMultiprocessors = 132;
constexpr std::int64_t kTileTokenBytes = std::int64_t{256} * 2;

// The steps of a part of those rows that are cut; 0: none is. A tile of a long row goes on while
// other thread blocks make many tiles of other tokens. If the cache does not hold the input of all
// of those, it reads its input apart from them: only then rows are cut.
std::int64_t part_steps(const BlockRows& rows, std::int64_t members, std::int64_t block) {
  if (block < kStripHeight || rows.begin[rows.count] == 0)
    return 0;
  std::int64_t longest = 0;
  for (std::int64_t r = 0; r < rows.count; ++r) longest = std::max(longest, rows.length(r));
  const std::int64_t blocks = rows.begin[rows.count];
  const std::int64_t followed = longest * kMultiprocessors * members / blocks;  // tiles of tokens
  const std::int64_t held = kCachedInput / (kTileTokenBytes * rows.width * block);
  if (longest < kLongSteps || longest * rows.count < kLong * blocks || followed <= held)
    return 0;
  // About what the groups of whole rows have, which share columns.
  return std::max(kLeastPart, (members == 1 ? 3 : 4) * blocks / (2 * rows.count));
}

}  // namespace

RowCuts::RowCuts(const BlockRows& rows, std::int64_t members, std::int64_t block)
    : rows_(rows), steps_(part_steps(rows, members, block)) {}

std::int64_t RowCuts::parts(std::int64_t row) const {
  const std::int64_t length = rows_.length(row);
  if (steps_ == 0 || length < std::max(kLongSteps, 2 * steps_))
    return 1;
  return std::min((length + steps_ - 1) / steps_, kMostParts);
}

}  // namespace hew::kernels
