#pragma once

#include <cstdint>

#include "core/tensor.h"

namespace hew::train {

/// Learned positions of a ViT for another number of patches: `table` is [first + from², C] float32,
/// the first rows are tokens without a place in the image and stay, the others a from × from grid
/// that becomes to × to by cubic convolution (Keys 1981, a = −1/2), whose kernel is as wide as an
/// output cell where the grid shrinks. As timm's resample_abs_pos_embed does.
Tensor resize_positions(const Tensor& table, std::int64_t first, std::int64_t from,
                        std::int64_t to);

}  // namespace hew::train
