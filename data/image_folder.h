#pragma once

#include <memory>
#include <string>

#include "data/image_set.h"

namespace hew {

/// A folder with a folder of PNG and JPEG files for each class; these may have folders again.
/// Classes and files are in byte order of their names; names that begin with a dot are left out.
/// Looks at header and end of every file, and decodes them all where they are no more than 64 MiB.
/// Throws DataError that names the file; the first in order of several.
std::shared_ptr<const ImageSet> open_image_folder(const std::string& path);

}  // namespace hew
