#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/image_set.h"
#include "layers/model.h"

namespace hew::train {

enum class MaskColors : std::uint8_t {
  kLive,   // live blocks dark, dead ones light
  kNorms,  // live blocks by ‖W[r,c]‖_F / √elements, pale to dark from a matrix's weakest on
};

/// Where a matrix is in the picture: pixels of its upper left block's corner, and its size.
struct MaskPanel {
  std::string name = {};
  std::int64_t x = 0;
  std::int64_t y = 0;
  std::int64_t width = 0;
  std::int64_t height = 0;
  std::int64_t live_blocks = 0;
  std::int64_t blocks = 0;
};

struct MaskPicture {
  DecodedImage image;  // RGB
  std::vector<MaskPanel> panels;
  std::int64_t block_pixels = 0;  // side of a block
};

/// Every matrix under a mask as a panel of one square a block: a line of panels for each
/// transformer block, and one for each matrix outside of them, in the model's order. A block's side
/// is as many pixels, up to 8, as keep the picture within about 2400 by 4800, and at least 1.
/// Throws ConfigError where no matrix is under a mask.
MaskPicture draw_masks(layers::Model& model, MaskColors colors);

}  // namespace hew::train
