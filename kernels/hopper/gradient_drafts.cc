#include "kernels/hopper/gradient_drafts.h"

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <utility>

namespace hew::kernels::hopper {
namespace {

// Moves the first n to the caller.
std::vector<Place> taken_from(std::vector<Place>& all, std::size_t n) {
  const auto end = all.begin() + static_cast<std::ptrdiff_t>(n);
  std::vector<Place> out(all.begin(), end);
  all.erase(all.begin(), end);
  return out;
}

// Cuts the places of two bundles into items with few panels.
class Cutter {
 public:
  explicit Cutter(const GradientLimits& limits) : limits_(limits) {}

  std::vector<GradientDraft> cut(const std::vector<Place>& places) const {
    std::vector<GradientDraft> apart = sharing_none(all_in(places, 0), all_in(places, 1));
    std::vector<GradientDraft> together = sharing(places);
    return panels(together) <= panels(apart) ? together : apart;
  }

 private:
  static std::vector<Place> all_in(const std::vector<Place>& places, int bundle) {
    std::vector<Place> out;
    std::copy_if(places.begin(), places.end(), std::back_inserter(out),
                 [&](const Place& place) { return place.in(bundle); });
    return out;
  }

  std::size_t panels(const std::vector<GradientDraft>& drafts) const {
    std::size_t sum = 0;
    for (const GradientDraft& d : drafts) {
      const int bundles = d.source[0] == d.source[1] ? 1 : 2;
      sum += static_cast<std::size_t>(bundles * limits_.stacked) + d.own[0].size() +
             d.own[1].size() + d.shared.size();
    }
    return sum;
  }

  // Both warpgroups on one bundle.
  void alone(const std::vector<Place>& places, int bundle, std::vector<GradientDraft>& out) const {
    const auto most =
        static_cast<std::size_t>(std::min(2 * limits_.slots, limits_.panels - limits_.stacked));
    const std::size_t count = (places.size() + most - 1) / most;
    for (std::size_t i = 0; i < count; ++i) {
      const std::vector<Place> part = run(places, count, i);
      out.push_back({.source = {bundle, bundle}, .own = {run(part, 2, 1), run(part, 2, 0)}});
    }
  }

  std::vector<GradientDraft> sharing_none(const std::vector<Place>& a,
                                          const std::vector<Place>& b) const {
    std::vector<GradientDraft> out;
    const auto slots = static_cast<std::size_t>(limits_.slots);
    const auto room = static_cast<std::size_t>(limits_.panels - 2 * limits_.stacked);
    if (!a.empty() && !b.empty() && a.size() <= slots && b.size() <= slots &&
        a.size() + b.size() <= room) {
      out.push_back({.source = {0, 1}, .own = {a, b}});
      return out;
    }
    alone(a, 0, out);
    alone(b, 1, out);
    return out;
  }

  std::vector<GradientDraft> sharing(const std::vector<Place>& places) const {
    std::vector<Place> shared;
    std::array<std::vector<Place>, 2> own;
    for (const Place& place : places) {
      (place.in(0) && place.in(1) ? shared : own[place.in(0) ? 0 : 1]).push_back(place);
    }
    const auto slots = static_cast<std::size_t>(limits_.slots);
    const std::size_t count = (shared.size() + slots - 1) / slots;
    std::vector<GradientDraft> out;
    for (std::size_t i = 0; i < count; ++i) {
      GradientDraft draft{.source = {0, 1}, .shared = run(shared, count, i)};
      const std::size_t n = draft.shared.size();
      const std::size_t room = static_cast<std::size_t>(limits_.panels - 2 * limits_.stacked) - n;
      std::array<std::size_t, 2> more{std::min(slots - n, own[0].size()),
                                      std::min(slots - n, own[1].size())};
      while (more[0] + more[1] > room) --more[more[0] >= more[1] ? 0 : 1];
      draft.own = {taken_from(own[0], more[0]), taken_from(own[1], more[1])};
      out.push_back(std::move(draft));
    }
    std::vector<GradientDraft> rest = sharing_none(own[0], own[1]);
    std::move(rest.begin(), rest.end(), std::back_inserter(out));
    return out;
  }

  GradientLimits limits_;
};

}  // namespace

std::vector<Place> run(const std::vector<Place>& all, std::size_t k, std::size_t i) {
  const auto at = [&](std::size_t r) {
    return all.begin() + static_cast<std::ptrdiff_t>(all.size() * r / k);
  };
  return {at(i), at(i + 1)};
}

std::vector<GradientDraft> drafts_of(const std::vector<Place>& places,
                                     const GradientLimits& limits) {
  return Cutter(limits).cut(places);
}

}  // namespace hew::kernels::hopper
