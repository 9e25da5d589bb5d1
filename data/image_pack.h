#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "data/image_set.h"

namespace hew {

/// The `kind` and layout version of a sealed HDF5 file of images (docs/images.md).
inline constexpr const char* kImagePackKind = "images";
inline constexpr int kImagePackVersion = 1;

/// Packs whose images are no more bytes are held in memory, others read from the file.
inline constexpr std::int64_t kImagePackInMemory = std::int64_t{512} << 20U;

/// A pack of `hew data images`. Throws DataError.
std::shared_ptr<const ImageSet> open_image_pack(const std::string& path,
                                                std::int64_t in_memory = kImagePackInMemory);

struct ImagePackOptions {
  std::vector<std::string> inputs = {};  // as open_image_set takes them
  std::string output = {};
  std::int64_t size = 0;  // pixels of the shorter side, if it is longer; 0: every image as it is
  bool square = false;    // the middle, size x size, of an image whose shorter side is made `size`
  std::int64_t quality =
      0;  // JPEG files of this quality, 1 to 100; 0: pixels, or files as they are
  std::string classes_file = {};  // their names, one a line; empty: those of the set
  bool force = false;             // overwrite the output
};

struct ImagePackResult {
  std::int64_t images = 0;
  std::int64_t classes = 0;
  std::int64_t bytes = 0;  // of pixels or files
  std::string encoding = {};
};

/// Writes a pack, decoding every image on the way. It appears whole or not at all; equal images
/// give equal bytes. Throws ConfigError for options that do not fit and an output that exists, and
/// DataError that names the image.
ImagePackResult write_image_pack(const ImagePackOptions& options);

}  // namespace hew
