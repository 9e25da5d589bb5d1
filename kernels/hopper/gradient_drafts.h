#pragma once

#include <array>
#include <vector>

#include "kernels/hopper/gradient_bundles.h"

/// How the live blocks of two bundles become items with few panels.
namespace hew::kernels::hopper {

/// How panels fill a stage of shared memory at one block size.
struct GradientLimits {
  int stacked;  // lines of blocks in one left operand: 1, 2 or 4
  int slots;    // right panels of one warpgroup
  int panels;   // of an item
  int rounds;   // of matching; two stacked lines together share too little for any
  bool stars;   // whether items may be stars
};

/// An item before it is written down: warpgroup w works for bundle source[w] on own[w] and, where
/// they are two bundles, on what both share.
struct GradientDraft {
  std::array<int, 2> source{0, 0};
  std::array<std::vector<Place>, 2> own{};
  std::vector<Place> shared{};
};

/// The run i of k nearly equal runs of a list.
std::vector<Place> run(const std::vector<Place>& all, std::size_t k, std::size_t i);

/// All that is live at the places of two bundles, in items with as few panels as can be found.
std::vector<GradientDraft> drafts_of(const std::vector<Place>& places,
                                     const GradientLimits& limits);

}  // namespace hew::kernels::hopper
