#pragma once

#include <string>

#include "data/image_set.h"

namespace hew {

/// What a PNG or JPEG file says of itself, without decoding: a few reads of it. Throws DataError
/// for a file that is empty, of another kind, or lacks its end.
ImageShape probe_image_file(const std::string& path);

}  // namespace hew
