#include "core/beside.h"

#include <doctest/doctest.h>

#include <numeric>

#include "core/memory.h"
#include "tests/support/compare.h"
#include "tests/support/device.h"

namespace hew {
namespace {

void copy_on(const Stream& stream, const Tensor& from, Tensor& to) {
  copy_memory(to.view().data, stream.device, from.view().data, stream.device, from.nbytes(),
              stream);
}

}  // namespace

TEST_CASE("work beside a stream comes after what was queued before it and before what joins it") {
  const Stream& stream = test::test_stream();
  constexpr std::int64_t kCount = 1 << 22;
  std::vector<float> values(kCount);
  std::iota(values.begin(), values.end(), 1.0F);
  const Tensor first = Tensor::from(values, {kCount}, stream);
  for (const bool by_destructor : {false, true}) {
    Tensor to = Tensor::zeros({kCount}, DType::kFloat32, stream);
    std::vector<Tensor> chain{first.clone()};
    for (int i = 0; i < 20; ++i) chain.push_back(chain.back().clone());  // keeps the stream busy
    {
      Beside beside(stream);
      beside.begin();  // and once more, which joins what was begun
      const Stream side = beside.begin();
      for (int i = 0; i < 20; ++i) copy_on(side, chain.back(), to);
      beside.keep(chain.back());
      chain.clear();
      // All that is free may be this one's, and zero before the copies are made.
      const Tensor other = Tensor::zeros({20 * kCount}, DType::kFloat32, stream);
      if (!by_destructor) {
        beside.join();
        beside.join();  // once more does nothing
      }
    }
    Tensor after = Tensor::zeros({kCount}, DType::kFloat32, stream);
    copy_on(stream, to, after);
    to.fill_zero();
    CHECK(after.to_vector<float>() == values);
  }
}

}  // namespace hew
