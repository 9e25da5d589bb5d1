#include "core/shape.h"

#include <algorithm>
#include <cassert>

#include "core/error.h"

namespace hew {

Shape::Shape(std::initializer_list<std::int64_t> extents)
    : Shape(std::span<const std::int64_t>(extents.begin(), extents.size())) {}

Shape::Shape(std::span<const std::int64_t> extents) : rank_(static_cast<int>(extents.size())) {
  require<ShapeError>(extents.size() <= kMaxRank, "[shape] rank {} is above {}", extents.size(),
                      kMaxRank);
  for (const std::int64_t extent : extents) {
    require<ShapeError>(extent >= 0, "[shape] extent {} is negative", extent);
  }
  std::copy(extents.begin(), extents.end(), extents_.begin());
}

std::int64_t Shape::operator[](int i) const {
  const int index = i < 0 ? i + rank_ : i;
  assert(index >= 0 && index < rank_);
  return extents_[static_cast<std::size_t>(index)];
}

std::int64_t Shape::numel() const {
  std::int64_t n = 1;
  for (const std::int64_t extent : *this) n *= extent;
  return n;
}

std::string to_string(const Shape& shape) {
  std::string text = "[";
  for (int i = 0; i < shape.rank(); ++i) {
    if (i > 0)
      text += ", ";
    text += std::to_string(shape[i]);
  }
  return text + "]";
}

}  // namespace hew
