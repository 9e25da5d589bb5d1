#include <doctest/doctest.h>

#include "kernels/bsr_mlp.h"
#include "kernels/folded_weight.h"
#include "tests/kernels/bsr_case.h"

/// Products on a GPU that share one dense copy of their weight.
namespace hew::test {
namespace {

using kernels::BsrFolding;
using kernels::BsrSettings;
using kernels::FoldedWeight;

// As long as it lives, products go through dense ones, and keep W or do not.
class Folding {
 public:
  explicit Folding(BsrFolding folding, bool keep = true) {
    settings().folding = folding;
    settings().keep_folded = keep;
  }
  Folding(const Folding&) = delete;
  Folding& operator=(const Folding&) = delete;
  ~Folding() {
    settings().folding = BsrFolding::kAuto;
    settings().keep_folded = true;
  }

 private:
  static BsrSettings& settings() { return gpu_stream().state->get<BsrSettings>(gpu_stream()); }
};

Tensor y_of(const Case& c, FoldedWeight* folded) {
  Tensor y = poisoned(c.dy.gpu.shape(), c.dtype, gpu_stream());
  kernels::bsr_forward(
      {.x = c.x.gpu, .values = c.values.gpu, .index = c.uploaded.index(), .y = y, .folded = folded},
      gpu_stream());
  return on_cpu(y);
}

Tensor dx_of(const Case& c, FoldedWeight* folded) {
  Tensor dx = poisoned(c.x.gpu.shape(), c.dtype, gpu_stream());
  kernels::bsr_input_gradient({.dy = c.dy.gpu,
                               .values = c.values.gpu,
                               .index = c.uploaded.index(),
                               .dx = dx,
                               .folded = folded},
                              gpu_stream());
  return on_cpu(dx);
}

}  // namespace

TEST_CASE("folded products on a GPU share one dense weight, and a stale one is found") {
  for (const Type& type : kTypes) {
    CAPTURE(type.name());
    for (const std::int64_t b : {8, 64}) {
      CAPTURE(b);
      Case c(random_pattern(2 * b + 8, 3 * b, b, 0.5, 7), 70, type);
      const Folding folding(BsrFolding::kFolded);
      FoldedWeight folded;
      const Tensor y = y_of(c, nullptr);
      const Tensor dx = dx_of(c, nullptr);
      CHECK(same_bytes(y_of(c, &folded), y));
      REQUIRE(folded.kept().defined());
      CHECK(same_bytes(rounded(on_cpu(folded.kept()), DType::kFloat64),
                       fold(c.values.wide, c.pattern)));
      const void* const memory = folded.kept().view().data;
      CHECK(same_bytes(dx_of(c, &folded), dx));
      CHECK(folded.kept().view().data == memory);

      // Values change, and nobody says so: both products are the old ones, which a fold of their
      // own shows.
      c.values.gpu.fill_zero();
      CHECK(same_bytes(y_of(c, &folded), y));
      CHECK_FALSE(same_bytes(y_of(c, nullptr), y));
      CHECK(same_bytes(dx_of(c, &folded), dx));
      CHECK_FALSE(same_bytes(dx_of(c, nullptr), dx));
      folded.drop();
      CHECK(same_bytes(y_of(c, &folded), y_of(c, nullptr)));
      CHECK(same_bytes(dx_of(c, &folded), dx_of(c, nullptr)));
    }
  }
}

TEST_CASE("products on a GPU that need no folded weight keep none") {
  const Case c(random_pattern(3 * 64, 2 * 64, 64, 0.5, 7), 70, kBFloat16);
  FoldedWeight folded;
  {
    const Folding own(BsrFolding::kOwn);
    y_of(c, &folded);
    dx_of(c, &folded);
    CHECK_FALSE(folded.kept().defined());
  }
  const Folding anew(BsrFolding::kFolded, /*keep=*/false);
  CHECK(same_bytes(y_of(c, &folded), y_of(c, nullptr)));
  CHECK_FALSE(folded.kept().defined());
}

TEST_CASE("both folded products of an MLP on a GPU keep their weights") {
  const Case up(random_pattern(4 * 64, 2 * 64, 64, 0.5, 7), 70, kBFloat16);
  const Case down(random_pattern(2 * 64, 4 * 64, 64, 0.5, 8), 70, kBFloat16);
  const Folding folding(BsrFolding::kFolded);
  const auto mlp = [&](FoldedWeight* of_up, FoldedWeight* of_down) {
    Tensor y = poisoned({70, 2 * 64}, DType::kBFloat16, gpu_stream());
    kernels::bsr_mlp_forward({.x = up.x.gpu,
                              .up_values = up.values.gpu,
                              .up = up.uploaded.index(),
                              .activation = Activation::kGelu,
                              .down_values = down.values.gpu,
                              .down = down.uploaded.index(),
                              .up_folded = of_up,
                              .down_folded = of_down,
                              .y = y},
                             gpu_stream());
    return on_cpu(y);
  };
  FoldedWeight of_up;
  FoldedWeight of_down;
  const Tensor y = mlp(&of_up, &of_down);
  CHECK(of_up.kept().shape() == Shape{4 * 64, 2 * 64});
  CHECK(of_down.kept().shape() == Shape{2 * 64, 4 * 64});
  CHECK(same_bytes(mlp(&of_up, &of_down), y));
  CHECK(same_bytes(mlp(nullptr, nullptr), y));
}

}  // namespace hew::test
