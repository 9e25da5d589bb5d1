#pragma once

#include <vector>

#include "kernels/hopper/gradient_items.h"

namespace hew::kernels::hopper {

/// The items of b = 128, each of two blocks that share a block row or column as far as they do.
std::vector<GradientItem> wide_items(const BsrIndex& index);
/// The same, each of one block.
std::vector<GradientItem> single_items(const BsrIndex& index);

}  // namespace hew::kernels::hopper
