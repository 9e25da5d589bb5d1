#include "kernels/hopper/gradient_writer.h"

#include <algorithm>
#include <cstddef>

namespace hew::kernels::hopper {
namespace {

std::int32_t block_at(const Bundle& bundle, std::int32_t across) {
  return std::ranges::lower_bound(bundle.places, across, {}, &Place::across)->block[0][0];
}

}  // namespace

GradientItem empty_item(bool transposed) {
  GradientItem item;
  item.transposed = transposed ? 1 : 0;
  for (auto& lines : item.block) {
    for (auto& slots : lines) slots.fill(-1);
  }
  return item;
}

void add_panel(GradientItem& item, std::int64_t start) {
  item.start[static_cast<std::size_t>(item.panels++)] = static_cast<std::int32_t>(start);
}

GradientWriter::GradientWriter(const BsrIndex& index, bool transposed, int stacked)
    : block_(index.block),
      outside_((transposed ? index.block_cols() : index.block_rows()) * index.block),
      stacked_(stacked),
      transposed_(transposed) {}

GradientItem GradientWriter::written(const GradientDraft& draft,
                                     const std::array<const Bundle*, 2>& bundles) const {
  GradientItem item = empty_item(transposed_);
  const bool two = draft.source[0] != draft.source[1];
  for (std::size_t w = 0; w < (two ? 2U : 1U); ++w) {
    item.of[w].left.fill(item.panels);
    add_left(item, *bundles[static_cast<std::size_t>(draft.source[w])]);
  }
  if (!two)
    item.of[1].left = item.of[0].left;
  item.left_panels = item.panels;
  item.of[0].right = item.panels;
  add_right(item, draft, {0}, draft.own[0]);
  item.of[1].right = item.panels;
  add_right(item, draft, {0, 1}, draft.shared);
  add_right(item, draft, {1}, draft.own[1]);
  return item;
}

GradientItem GradientWriter::written(const GradientStar& star,
                                     const std::vector<Bundle>& bundles) const {
  GradientItem item = empty_item(transposed_);
  for (const std::size_t i : {star.hub, star.spoke[0], star.spoke[1]}) add_left(item, bundles[i]);
  item.left_panels = item.panels;
  item.of[0] = {.left = {0, 0}, .right = item.panels, .slots = 4};
  item.of[1] = {.left = {1, 2}, .right = item.panels, .slots = 4};
  for (std::size_t i = 0; i < star.across.size(); ++i) {
    add_panel(item, star.across[i] * block_);
    item.block[0][0][i] = block_at(bundles[star.hub], star.across[i]);
    item.block[1][0][i] = block_at(bundles[star.spoke[i / 2]], star.across[i]);
  }
  return item;
}

// A line that is missing lies outside the matrix, where TMA reads zeros.
void GradientWriter::add_left(GradientItem& item, const Bundle& bundle) const {
  for (std::size_t i = 0; i < static_cast<std::size_t>(stacked_); ++i) {
    add_panel(item, bundle.line[i] < 0 ? outside_ : bundle.line[i] * block_);
  }
}

void GradientWriter::add_right(GradientItem& item, const GradientDraft& draft,
                               std::initializer_list<std::size_t> groups,
                               const std::vector<Place>& places) const {
  for (const Place& place : places) {
    add_panel(item, place.across * block_);
    for (const std::size_t w : groups) {
      const auto slot = static_cast<std::size_t>(item.of[w].slots++);
      const auto& blocks = place.block[static_cast<std::size_t>(draft.source[w])];
      for (std::size_t i = 0; i < blocks.size(); ++i) item.block[w][i][slot] = blocks[i];
    }
  }
}

}  // namespace hew::kernels::hopper
