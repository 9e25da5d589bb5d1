#include "kernels/folded_weight.h"

#include <doctest/doctest.h>

#include "tests/support/block_pattern.h"
#include "tests/support/compare.h"
#include "tests/support/device.h"
#include "tests/support/random.h"

namespace hew::test {
namespace {

struct Weight {
  BlockPattern pattern;
  UploadedPattern uploaded;
  Tensor values;

  Weight(BlockPattern blocks, std::uint64_t seed)
      : pattern(std::move(blocks)),
        uploaded(pattern, test_stream()),
        values(to(with_zero_padding(random_tensor(pattern.values_shape(), DType::kFloat32,
                                                  make_cpu_stream(), seed),
                                    pattern),
                  test_stream())) {}

  Tensor by(kernels::FoldedWeight& folded) const {
    return on_cpu(folded.of(values, uploaded.index(), test_stream()));
  }
  Tensor expected() const { return fold(on_cpu(values), pattern); }
};

}  // namespace

TEST_CASE("a folded weight is made once, and again when it was dropped") {
  for (const std::int64_t b : {8, 16}) {
    for (const double density : {0.0, 0.5, 1.0}) {
      Weight weight(random_pattern(3 * b + 1, 2 * b + 5, b, density, 1), 2);
      kernels::FoldedWeight folded;
      CHECK_FALSE(folded.kept().defined());
      const Tensor first = weight.by(folded);
      CHECK(same_bytes(first, weight.expected()));
      const void* const memory = folded.kept().view().data;
      CHECK(same_bytes(weight.by(folded), first));
      CHECK(folded.kept().view().data == memory);
      if (weight.pattern.nnzb() == 0)
        continue;
      // Values are not compared: who writes them has to say so, or finds the old ones.
      weight.values.fill_zero();
      CHECK(same_bytes(weight.by(folded), first));
      CHECK_FALSE(same_bytes(weight.by(folded), weight.expected()));
      folded.drop();
      CHECK_FALSE(folded.kept().defined());
      CHECK(same_bytes(weight.by(folded), weight.expected()));
    }
  }
}

TEST_CASE("a folded weight is made anew for other values, another index or another type") {
  const Weight one(random_pattern(40, 24, 8, 0.5, 1), 2);
  const Weight other_values(one.pattern, 3);
  const Weight other_index(random_pattern(24, 40, 8, 0.5, 4), 2);
  kernels::FoldedWeight folded;
  for (const Weight* weight : {&one, &other_values, &other_index, &one}) {
    CHECK(same_bytes(weight->by(folded), weight->expected()));
  }
  // The same memory under as many blocks elsewhere.
  Weight moved(one_block(16, 24, 8, 1, 2), 5);
  CHECK(same_bytes(moved.by(folded), moved.expected()));
  const BlockPattern corner = one_block(16, 24, 8, 0, 0);
  const UploadedPattern uploaded(corner, test_stream());
  CHECK(same_bytes(on_cpu(folded.of(moved.values, uploaded.index(), test_stream())),
                   fold(on_cpu(moved.values), corner)));
}

}  // namespace hew::test
