#include "kernels/hopper/gradient_stars.h"

#include <algorithm>
#include <optional>

namespace hew::kernels::hopper {
namespace {

// Bounds the time for matrices of thousands of lines.
constexpr std::size_t kCandidates = 256;

// Two of the places that hub and spoke share: those that the other spoke lacks come first.
std::array<std::int32_t, 2> pair_of(const PlaceSets& sets, const GradientStar& star) {
  std::vector<std::int32_t> places = sets.places_shared(star.hub, star.spoke[0]);
  std::stable_partition(places.begin(), places.end(),
                        [&](std::int32_t across) { return !sets.has(star.spoke[1], across); });
  return {places[0], places[1]};
}

// The star around a line whose spokes share most with it.
std::optional<GradientStar> star_around(const PlaceSets& sets, std::size_t hub) {
  GradientStar star{.hub = hub};
  auto best = [&](auto&& shared) -> std::optional<std::size_t> {
    std::optional<std::size_t> found;
    int most = 1;
    for (std::size_t i = 1; i < std::min(sets.size(), kCandidates); ++i) {
      const std::size_t j = (hub + i) % sets.size();
      const int n = shared(j);
      if (n > most) {
        most = n;
        found = j;
      }
    }
    return found;
  };
  const auto first = best([&](std::size_t j) { return sets.shared(hub, j); });
  if (!first)
    return {};
  star.spoke[0] = *first;
  const auto second = best([&](std::size_t j) {
    if (j == *first)
      return 0;
    const int taken = std::max(0, 2 - sets.shared_without(hub, *first, j));
    return sets.shared(hub, j) - taken;
  });
  if (!second)
    return {};
  star.spoke[1] = *second;
  const std::array<std::int32_t, 2> pair = pair_of(sets, star);
  std::vector<std::int32_t> others = sets.places_shared(hub, *second);
  std::erase_if(others, [&pair](std::int32_t across) {
    return std::ranges::find(pair, across) != pair.end();
  });
  star.across = {pair[0], pair[1], others[0], others[1]};
  return star;
}

}  // namespace

std::vector<GradientStar> stars_of(const std::vector<Bundle>& bundles, std::int64_t width) {
  PlaceSets sets(bundles, width);
  std::vector<GradientStar> stars;
  for (std::size_t hub = 0; hub < sets.size(); ++hub) {
    while (const std::optional<GradientStar> star = star_around(sets, hub)) {
      stars.push_back(*star);
      for (std::size_t i = 0; i < star->across.size(); ++i) {
        sets.remove(hub, star->across[i]);
        sets.remove(star->spoke[i / 2], star->across[i]);
      }
    }
  }
  return stars;
}

void remove(const std::vector<GradientStar>& stars, std::vector<Bundle>& bundles) {
  const auto take = [&bundles](std::size_t bundle, std::int32_t across) {
    std::erase_if(bundles[bundle].places,
                  [across](const Place& place) { return place.across == across; });
  };
  for (const GradientStar& star : stars) {
    for (std::size_t i = 0; i < star.across.size(); ++i) {
      take(star.hub, star.across[i]);
      take(star.spoke[i / 2], star.across[i]);
    }
  }
}

}  // namespace hew::kernels::hopper
