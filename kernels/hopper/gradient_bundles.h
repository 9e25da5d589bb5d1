#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/bsr.h"

/// Which block rows (or columns) of a sparse matrix go well together on the host: those that share
/// most.
namespace hew::kernels::hopper {

/// A live block of a line.
struct Live {
  std::int32_t across;  // where it lies in the line
  std::int32_t block;
};

/// The block rows of a matrix, or its block columns where `transposed`.
struct Lines {
  bool transposed = false;
  std::int64_t width = 0;  // blocks across
  std::vector<std::vector<Live>> live{};
};

/// The index arrays lie on the host.
Lines lines_of(const BsrIndex& index, bool transposed);
/// The part of a line in [begin, end).
std::span<const Live> within(const std::vector<Live>& line, std::int64_t begin, std::int64_t end);

/// Thread blocks of a GPU that are at work at a time, about.
inline constexpr double kThreadBlocks = 132;

/// Windows across the lines: as many lines as are worked on at a time, in items of so many blocks,
/// shall be about as many as the places across that they need, so that both stay in the
/// second-level cache.
std::int64_t windows(const BsrIndex& index, const Lines& lines, double item_blocks);

/// Lines of a bundle; −1 where there are fewer.
constexpr std::size_t kMaxStacked = 4;
using Stack = std::array<std::int32_t, kMaxStacked>;
constexpr Stack kNoStack{-1, -1, -1, -1};

/// What up to two bundles have live at one place across: block[bundle][line]; −1 where nothing.
struct Place {
  std::int32_t across = 0;
  std::array<Stack, 2> block{kNoStack, kNoStack};

  bool in(int bundle) const { return block[static_cast<std::size_t>(bundle)] != kNoStack; }
};

/// One line, or several stacked ones, with the places that it has.
struct Bundle {
  Stack line = kNoStack;
  std::vector<Place> places{};  // ascending; its blocks are block[0]
};

/// Bundles of one line each, as far as they lie in [begin, end).
std::vector<Bundle> bundles_within(const Lines& lines, std::int64_t begin, std::int64_t end);
/// The same lines, two bundles of `height` lines each in one.
std::vector<Bundle> stacked(std::vector<Bundle> bundles, std::size_t height, std::int64_t width);

/// Both bundles' places as one list: the first's blocks are block[0], the second's block[1].
std::vector<Place> side_by_side(const Bundle& a, const Bundle& b);
/// Removes the places that `taken` has too.
void remove(const std::vector<Place>& taken, std::vector<Place>& from);

/// Which places each bundle has, one bit each.
class PlaceSets {
 public:
  PlaceSets(const std::vector<Bundle>& bundles, std::int64_t width);

  std::size_t size() const { return count_; }
  bool has(std::size_t i, std::int32_t across) const;
  /// How many places bundles i and j share, and which; the same without those that k has.
  int shared(std::size_t i, std::size_t j) const;
  int shared_without(std::size_t i, std::size_t j, std::size_t k) const;
  std::vector<std::int32_t> places_shared(std::size_t i, std::size_t j) const;
  void remove(std::size_t i, std::int32_t across);

 private:
  std::span<const std::uint64_t> of(std::size_t i) const;

  std::size_t count_;
  std::size_t words_;
  std::vector<std::uint64_t> bits_;
};

using Pairs = std::vector<std::array<std::int32_t, 2>>;

/// Drops empty bundles; then each with the one among the next that it shares most places with, −1
/// where none is left.
Pairs pairs_by_overlap(std::vector<Bundle>& bundles, std::int64_t width);

}  // namespace hew::kernels::hopper
