#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/hopper/gradient_bundles.h"

namespace hew::kernels::hopper {

/// Four places of a line, the hub: one line has two of them, another the other two. Seven panels
/// make eight blocks, with hub and spokes on the left.
struct GradientStar {
  std::size_t hub = 0;
  std::array<std::size_t, 2> spoke{};
  std::array<std::int32_t, 4> across{};  // the first two are those of spoke 0
};

/// Stars among bundles of one line each, of a matrix of `width` places across; none has a block of
/// another.
std::vector<GradientStar> stars_of(const std::vector<Bundle>& bundles, std::int64_t width);
/// Removes the places that the stars have.
void remove(const std::vector<GradientStar>& stars, std::vector<Bundle>& bundles);

}  // namespace hew::kernels::hopper
