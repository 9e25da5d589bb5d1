#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <vector>

#include "kernels/hopper/gradient_drafts.h"
#include "kernels/hopper/gradient_items.h"
#include "kernels/hopper/gradient_stars.h"

namespace hew::kernels::hopper {

/// An item without panels.
GradientItem empty_item(bool transposed);
/// Adds the panel that begins at column `start` of dy or x.
void add_panel(GradientItem& item, std::int64_t start);

/// Writes down items of blocks of one panel, b < 128.
class GradientWriter {
 public:
  /// `stacked`: see GradientLimits.
  GradientWriter(const BsrIndex& index, bool transposed, int stacked);

  GradientItem written(const GradientDraft& draft,
                       const std::array<const Bundle*, 2>& bundles) const;
  GradientItem written(const GradientStar& star, const std::vector<Bundle>& bundles) const;

 private:
  void add_left(GradientItem& item, const Bundle& bundle) const;
  void add_right(GradientItem& item, const GradientDraft& draft,
                 std::initializer_list<std::size_t> groups, const std::vector<Place>& places) const;

  std::int64_t block_;
  std::int64_t outside_;
  int stacked_;
  bool transposed_;
};

}  // namespace hew::kernels::hopper
