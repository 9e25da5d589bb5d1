#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/image_set.h"

namespace hew {

/// Images of one shape, all of them in memory. Labels must fit Info::classes.
class RawImages final : public ImageSet {
 public:
  /// pixels [images, height, width, channels].
  RawImages(Info info, const ImageShape& shape, std::vector<std::uint8_t> pixels,
            std::vector<std::int32_t> labels);

  std::int64_t size() const override { return std::ssize(labels_); }
  std::int64_t label(std::int64_t i) const override { return labels_[static_cast<std::size_t>(i)]; }
  ImageShape shape_of(std::int64_t /*i*/) const override { return image_; }
  DecodedImage read(std::int64_t i) const override;
  std::string name(std::int64_t i) const override;

 private:
  ImageShape image_;
  std::vector<std::uint8_t> pixels_;
  std::vector<std::int32_t> labels_;
};

/// "0", "1", … for labels without names: as many as the largest asks for, at least `least`.
std::vector<std::string> numbered_classes(const std::vector<std::int32_t>& labels,
                                          std::int64_t least = 1);

}  // namespace hew
