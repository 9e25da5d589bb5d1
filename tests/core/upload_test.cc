#include "core/upload.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <numeric>

#include "core/error.h"
#include "tests/support/compare.h"
#include "tests/support/device.h"

namespace hew {
namespace {

std::vector<float> counted_from(float first, std::int64_t count) {
  std::vector<float> values(static_cast<std::size_t>(count));
  std::iota(values.begin(), values.end(), first);
  return values;
}

}  // namespace

TEST_CASE("what is queued after an upload reads its values, through many turns") {
  const Stream& stream = test::test_stream();
  Upload upload(stream);
  const Shape shape{3, 700'001};  // several of the slots that copies go through
  std::vector<Tensor> kept;
  std::vector<std::vector<float>> wanted;
  std::vector<float> values(static_cast<std::size_t>(shape.numel()));
  for (int i = 0; i < 7; ++i) {
    wanted.push_back(counted_from(static_cast<float>(1000 * i), shape.numel()));
    std::ranges::copy(wanted.back(), values.begin());
    const Tensor there = upload.to_device(values, shape);
    std::ranges::fill(values, -1.0F);  // the caller's memory is his again
    kept.push_back(there.clone());
  }
  for (std::size_t i = 0; i < kept.size(); ++i) CHECK(kept[i].to_vector<float>() == wanted[i]);
}

TEST_CASE("an upload of another shape gets another tensor, one of a wrong size none") {
  Upload upload(test::test_stream());
  for (const std::int64_t n : {4, 4, 4, 6, 1, 4}) {
    const std::vector<float> values = counted_from(0, n);
    CHECK(upload.to_device(values, {n}).to_vector<float>() == values);
  }
  CHECK_THROWS_AS(upload.to_device(counted_from(0, 3), {4}), ShapeError);
}

}  // namespace hew
