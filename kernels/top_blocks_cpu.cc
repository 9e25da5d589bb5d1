#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "kernels/top_blocks.h"

namespace hew::kernels {

void top_blocks(Cpu /*backend*/, const ConstView& scores, std::int64_t keep, const View& mask) {
  const auto* score = scores.as<double>();
  const std::int64_t n = scores.numel();
  for (std::int64_t i = 0; i < n; ++i) {
    require<Error>(!std::isnan(score[i]), "[top_blocks] the score of block {} is NaN", i);
  }
  std::vector<std::int64_t> blocks(static_cast<std::size_t>(n));
  std::iota(blocks.begin(), blocks.end(), 0);
  const auto end = blocks.begin() + keep;
  std::nth_element(blocks.begin(), end, blocks.end(), [score](std::int64_t a, std::int64_t b) {
    return score[a] != score[b] ? score[a] > score[b] : a < b;
  });
  std::fill_n(mask.as<std::uint8_t>(), n, std::uint8_t{0});
  for (auto block = blocks.begin(); block != end; ++block) mask.as<std::uint8_t>()[*block] = 1;
}

void threshold_blocks(Cpu /*backend*/, const ConstView& scores, double threshold,
                      const View& mask) {
  const auto* score = scores.as<double>();
  std::transform(score, score + scores.numel(), mask.as<std::uint8_t>(), [threshold](double s) {
    return static_cast<std::uint8_t>(s >= threshold ? 1 : 0);
  });
}

}  // namespace hew::kernels
