#include "sparsity/selection.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/error.h"

namespace hew::sparsity {
namespace {

std::int64_t round_half_up(double x) {
  return static_cast<std::int64_t>(std::floor(x + 0.5));
}

using Index = std::vector<std::int64_t>;

// Best first by score; equal scores by index.
struct Better {
  std::span<const double> score;
  bool operator()(std::int64_t a, std::int64_t b) const {
    const double sa = score[static_cast<std::size_t>(a)];
    const double sb = score[static_cast<std::size_t>(b)];
    return sa != sb ? sa > sb : a < b;
  }
};

void require_no_nan(const Index& blocks, std::span<const double> score) {
  for (const std::int64_t b : blocks) {
    require<Error>(!std::isnan(score[static_cast<std::size_t>(b)]),
                   "[selection] the score of block {} is NaN", b);
  }
}

void sort_best_first(Index& blocks, std::span<const double> score) {
  require_no_nan(blocks, score);
  std::sort(blocks.begin(), blocks.end(), Better{score});
}

// Leaves the `count` best, in any order: several times as fast as sorting them.
void keep_best(Index& blocks, std::span<const double> score, std::size_t count) {
  require_no_nan(blocks, score);
  if (count >= blocks.size())
    return;
  std::nth_element(blocks.begin(), blocks.begin() + static_cast<std::ptrdiff_t>(count),
                   blocks.end(), Better{score});
  blocks.resize(count);
}

Index all_blocks(std::size_t n) {
  Index blocks(n);
  std::iota(blocks.begin(), blocks.end(), 0);
  return blocks;
}

// Of the blocks, in ascending order, those that live, or those that do not.
Index blocks_that(bool live, const RefreshInput& in) {
  Index blocks;
  for (std::size_t b = 0; b < in.live.size(); ++b) {
    if ((in.live[b] != 0) == live)
      blocks.push_back(static_cast<std::int64_t>(b));
  }
  return blocks;
}

// K, best first.
Index best_by_score(const RefreshInput& in) {
  Index best = blocks_that(/*live=*/true, in);
  sort_best_first(best, in.score);
  const auto wanted = static_cast<std::size_t>(in.wanted);
  if (best.size() > wanted) {
    best.resize(wanted);
  } else if (best.size() < wanted) {
    Index dead = blocks_that(/*live=*/false, in);
    if (!in.growth.empty())
      sort_best_first(dead, in.growth);
    best.insert(best.end(), dead.begin(),
                dead.begin() + static_cast<std::ptrdiff_t>(wanted - best.size()));
  }
  return best;
}

// D in order of growth: the k best of all blocks, minus those in `keep`.
Index best_by_growth(const RefreshInput& in, const MaskBytes& keep) {
  if (in.growth.empty())
    return {};
  Index grown = top_k(in.growth, in.wanted);
  std::erase_if(grown, [&keep](std::int64_t b) { return keep[static_cast<std::size_t>(b)] != 0; });
  return grown;
}

MaskBytes mask_of(const Index& blocks, std::size_t n) {
  MaskBytes mask(n, 0);
  for (const std::int64_t b : blocks) mask[static_cast<std::size_t>(b)] = 1;
  return mask;
}

// prune_and_grow() of one matrix with at least as many live blocks as are wanted, where no order is
// needed but who is in and who is out.
MaskBytes prune_and_grow_within(const RefreshInput& in, Index live) {
  const std::size_t n = in.live.size();
  const auto wanted = static_cast<std::size_t>(in.wanted);
  keep_best(live, in.score, wanted);
  if (in.regrow == Regrow::kNone || in.growth.empty())
    return mask_of(live, n);
  Index grown = all_blocks(n);
  keep_best(grown, in.growth, wanted);
  const MaskBytes kept = mask_of(live, n);
  std::erase_if(grown, [&kept](std::int64_t b) { return kept[static_cast<std::size_t>(b)] != 0; });
  if (in.regrow == Regrow::kSwap) {
    const double most = std::floor(in.swap_fraction * static_cast<double>(wanted));
    keep_best(grown, in.growth, static_cast<std::size_t>(most));
    keep_best(live, in.score, wanted - grown.size());
  }
  live.insert(live.end(), grown.begin(), grown.end());
  return mask_of(live, n);
}

// Gives every pooled matrix one block at least, at the cost of the weakest of the others.
void keep_one_per_matrix(const RefreshInput& in, Index& kept) {
  const std::size_t matrices = in.matrix_begin.size() - 1;
  std::vector<std::int64_t> count(matrices, 0);
  auto matrix_of = [&in](std::int64_t b) {
    const auto after = std::upper_bound(in.matrix_begin.begin(), in.matrix_begin.end(), b);
    return static_cast<std::size_t>(after - in.matrix_begin.begin()) - 1;
  };
  for (const std::int64_t b : kept) ++count[matrix_of(b)];
  for (std::size_t m = 0; m < matrices; ++m) {
    if (count[m] > 0 || in.matrix_begin[m] == in.matrix_begin[m + 1])
      continue;
    Index candidates;
    for (std::int64_t b = in.matrix_begin[m]; b < in.matrix_begin[m + 1]; ++b) {
      if (in.live[static_cast<std::size_t>(b)] != 0)
        candidates.push_back(b);
    }
    sort_best_first(candidates, in.score);
    const std::int64_t best = candidates.empty() ? in.matrix_begin[m] : candidates.front();
    const auto weakest = std::find_if(kept.rbegin(), kept.rend(),
                                      [&](std::int64_t b) { return count[matrix_of(b)] > 1; });
    if (weakest != kept.rend()) {
      --count[matrix_of(*weakest)];
      kept.erase(std::next(weakest).base());
    }
    kept.insert(kept.begin(), best);
    ++count[m];
  }
}

}  // namespace

std::int64_t live_blocks(std::int64_t n, double sparsity) {
  return std::max<std::int64_t>(1, n - round_half_up(sparsity * static_cast<double>(n)));
}

std::int64_t kept_blocks(std::int64_t n, double sparsity) {
  return n - round_half_up(sparsity * static_cast<double>(n - 1));
}

std::vector<std::int64_t> top_k(std::span<const double> scores, std::int64_t k) {
  Index blocks = all_blocks(scores.size());
  sort_best_first(blocks, scores);
  blocks.resize(static_cast<std::size_t>(
      std::clamp<std::int64_t>(k, 0, static_cast<std::int64_t>(scores.size()))));
  return blocks;
}

MaskBytes prune_and_grow(const RefreshInput& in) {
  require<ShapeError>(in.score.size() == in.live.size() &&
                          (in.growth.empty() || in.growth.size() == in.live.size()),
                      "[prune_and_grow] {} live flags, {} scores, {} growth scores", in.live.size(),
                      in.score.size(), in.growth.size());
  require<ShapeError>(in.wanted >= 0 && in.wanted <= static_cast<std::int64_t>(in.live.size()),
                      "[prune_and_grow] {} blocks wanted of {}", in.wanted, in.live.size());
  const bool pooled = in.matrix_begin.size() > 2;
  Index live = blocks_that(/*live=*/true, in);
  if (!pooled && std::ssize(live) >= in.wanted)
    return prune_and_grow_within(in, std::move(live));
  Index kept = best_by_score(in);
  if (pooled)
    keep_one_per_matrix(in, kept);
  MaskBytes mask = mask_of(kept, in.live.size());
  if (in.regrow == Regrow::kNone)
    return mask;

  Index grown = best_by_growth(in, mask);
  if (in.regrow == Regrow::kSwap) {
    const auto most =
        static_cast<std::size_t>(std::floor(in.swap_fraction * static_cast<double>(kept.size())));
    grown.resize(std::min(grown.size(), most));
    kept.resize(kept.size() - grown.size());
  }
  kept.insert(kept.end(), grown.begin(), grown.end());
  if (pooled && in.regrow == Regrow::kSwap)
    keep_one_per_matrix(in, kept);  // what gave way may have been a matrix's last
  return mask_of(kept, in.live.size());
}

}  // namespace hew::sparsity
