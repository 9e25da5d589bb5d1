#include "kernels/hopper/gradient_bundles.h"

#include <algorithm>
#include <bit>

namespace hew::kernels::hopper {
namespace {

// Bounds the time for matrices of thousands of lines.
constexpr int kCandidates = 256;

Pairs pairs_of(const PlaceSets& sets) {
  Pairs pairs;
  pairs.reserve(sets.size());
  std::vector<char> taken(sets.size(), 0);
  for (std::size_t i = 0; i < sets.size(); ++i) {
    if (taken[i] != 0)
      continue;
    std::int32_t partner = -1;
    int most = -1;
    int candidates = 0;
    for (std::size_t j = i + 1; j < sets.size() && candidates < kCandidates; ++j) {
      if (taken[j] != 0)
        continue;
      ++candidates;
      const int shared = sets.shared(i, j);
      if (shared > most) {
        most = shared;
        partner = static_cast<std::int32_t>(j);
      }
    }
    if (partner >= 0)
      taken[static_cast<std::size_t>(partner)] = 1;
    pairs.push_back({static_cast<std::int32_t>(i), partner});
  }
  return pairs;
}

// Two lists in ascending order as one: `take(place, side, entry)` fills in what a side has there.
template <class Take>
std::vector<Place> merged(const std::vector<Place>& a, const std::vector<Place>& b,
                          const Take& take) {
  std::vector<Place> out;
  out.reserve(a.size() + b.size());
  std::size_t i = 0;
  std::size_t j = 0;
  while (i < a.size() || j < b.size()) {
    const bool from_a = i < a.size() && (j == b.size() || a[i].across <= b[j].across);
    const bool from_b = j < b.size() && (i == a.size() || b[j].across <= a[i].across);
    Place place{.across = from_a ? a[i].across : b[j].across};
    if (from_a)
      take(place, std::size_t{0}, a[i++]);
    if (from_b)
      take(place, std::size_t{1}, b[j++]);
    out.push_back(place);
  }
  return out;
}

}  // namespace

PlaceSets::PlaceSets(const std::vector<Bundle>& bundles, std::int64_t width)
    : count_(bundles.size()),
      words_(static_cast<std::size_t>(width / 64 + 1)),
      bits_(count_ * words_, 0) {
  for (std::size_t i = 0; i < count_; ++i) {
    for (const Place& place : bundles[i].places) {
      bits_[i * words_ + static_cast<std::size_t>(place.across) / 64] |= std::uint64_t{1}
                                                                         << place.across % 64;
    }
  }
}

std::span<const std::uint64_t> PlaceSets::of(std::size_t i) const {
  return std::span(bits_).subspan(i * words_, words_);
}

bool PlaceSets::has(std::size_t i, std::int32_t across) const {
  return (of(i)[static_cast<std::size_t>(across) / 64] >> across % 64 & 1) != 0;
}

int PlaceSets::shared(std::size_t i, std::size_t j) const {
  int shared = 0;
  for (std::size_t w = 0; w < words_; ++w) shared += std::popcount(of(i)[w] & of(j)[w]);
  return shared;
}

int PlaceSets::shared_without(std::size_t i, std::size_t j, std::size_t k) const {
  int shared = 0;
  for (std::size_t w = 0; w < words_; ++w) shared += std::popcount(of(i)[w] & of(j)[w] & ~of(k)[w]);
  return shared;
}

std::vector<std::int32_t> PlaceSets::places_shared(std::size_t i, std::size_t j) const {
  std::vector<std::int32_t> out;
  for (std::size_t w = 0; w < words_; ++w) {
    for (std::uint64_t rest = of(i)[w] & of(j)[w]; rest != 0; rest &= rest - 1)
      out.push_back(static_cast<std::int32_t>(64 * w) + std::countr_zero(rest));
  }
  return out;
}

void PlaceSets::remove(std::size_t i, std::int32_t across) {
  bits_[i * words_ + static_cast<std::size_t>(across) / 64] &= ~(std::uint64_t{1} << across % 64);
}

Lines lines_of(const BsrIndex& index, bool transposed) {
  const std::int64_t count = transposed ? index.block_cols() : index.block_rows();
  const std::int32_t* const begins = transposed ? index.ccol : index.crow;
  Lines out{.transposed = transposed,
            .width = transposed ? index.block_rows() : index.block_cols()};
  out.live.resize(static_cast<std::size_t>(count));
  for (std::int64_t line = 0; line < count; ++line) {
    out.live[static_cast<std::size_t>(line)].reserve(
        static_cast<std::size_t>(begins[line + 1] - begins[line]));
    for (std::int32_t q = begins[line]; q < begins[line + 1]; ++q) {
      out.live[static_cast<std::size_t>(line)].push_back(
          transposed ? Live{.across = index.row[q], .block = index.position[q]}
                     : Live{.across = index.col[q], .block = q});
    }
  }
  return out;
}

std::span<const Live> within(const std::vector<Live>& line, std::int64_t begin, std::int64_t end) {
  auto at = [&](std::int64_t across) {
    return std::partition_point(line.begin(), line.end(),
                                [&](const Live& live) { return live.across < across; });
  };
  return {at(begin), at(end)};
}

std::vector<Bundle> bundles_within(const Lines& lines, std::int64_t begin, std::int64_t end) {
  std::vector<Bundle> out;
  out.reserve(lines.live.size());
  for (std::size_t i = 0; i < lines.live.size(); ++i) {
    Bundle bundle;
    bundle.line[0] = static_cast<std::int32_t>(i);
    const std::span<const Live> inside = within(lines.live[i], begin, end);
    bundle.places.reserve(inside.size());
    for (const Live& live : inside) {
      Place place{.across = live.across};
      place.block[0][0] = live.block;
      bundle.places.push_back(place);
    }
    out.push_back(std::move(bundle));
  }
  return out;
}

std::vector<Bundle> stacked(std::vector<Bundle> bundles, std::size_t height, std::int64_t width) {
  const Bundle none;
  const auto copy = [height](const Stack& from, Stack& to, std::size_t side) {
    for (std::size_t i = 0; i < height; ++i) to[side * height + i] = from[i];
  };
  std::vector<Bundle> out;
  for (const auto& [first, second] : pairs_by_overlap(bundles, width)) {
    const Bundle& a = bundles[static_cast<std::size_t>(first)];
    const Bundle& b = second < 0 ? none : bundles[static_cast<std::size_t>(second)];
    Bundle both;
    copy(a.line, both.line, 0);
    copy(b.line, both.line, 1);
    both.places = merged(a.places, b.places, [&](Place& place, std::size_t side, const Place& own) {
      copy(own.block[0], place.block[0], side);
    });
    out.push_back(std::move(both));
  }
  return out;
}

std::vector<Place> side_by_side(const Bundle& a, const Bundle& b) {
  return merged(a.places, b.places, [](Place& place, std::size_t side, const Place& own) {
    place.block[side] = own.block[0];
  });
}

void remove(const std::vector<Place>& taken, std::vector<Place>& from) {
  std::erase_if(from, [at = taken.begin(), end = taken.end()](const Place& place) mutable {
    while (at != end && at->across < place.across) ++at;
    return at != end && at->across == place.across;
  });
}

Pairs pairs_by_overlap(std::vector<Bundle>& bundles, std::int64_t width) {
  std::erase_if(bundles, [](const Bundle& bundle) { return bundle.places.empty(); });
  return pairs_of(PlaceSets(bundles, width));
}

std::int64_t windows(const BsrIndex& index, const Lines& lines, double item_blocks) {
  const auto count = static_cast<double>(lines.live.size());
  const auto width = static_cast<double>(lines.width);
  const double density = static_cast<double>(index.nnzb) / (count * width);
  const double area = kThreadBlocks * item_blocks / density;
  const double side = std::max({std::sqrt(area), area / count, item_blocks / density});
  return std::max<std::int64_t>(1, std::llround(width / side));
}

}  // namespace hew::kernels::hopper
