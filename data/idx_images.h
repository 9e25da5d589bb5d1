#pragma once

#include <memory>
#include <string>

#include "data/image_set.h"

namespace hew {

enum class IdxKind : std::uint8_t { kNone, kImages, kLabels };

/// What an IDX file holds, plain or gzipped, by its first bytes. Throws DataError.
IdxKind idx_kind(const std::string& path);
/// Images [n, height, width] of bytes (LeCun's IDX format) and the labels of the file beside it,
/// whose name says `labels` and `idx1` where this one's says `images` and `idx3`. Throws DataError.
std::shared_ptr<const ImageSet> open_idx_images(const std::string& path);

}  // namespace hew
