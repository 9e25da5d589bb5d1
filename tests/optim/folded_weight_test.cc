#include "kernels/folded_weight.h"

#include <doctest/doctest.h>

#include "kernels/bsr_routes.h"
#include "kernels/product_settings.h"
#include "optim/make_optimizer.h"
#include "sparsity/linear_weight.h"
#include "tests/support/compare.h"
#include "tests/support/device.h"
#include "tests/support/random.h"

/// The dense copies that products keep of a layer's live blocks, and all that writes those.
namespace hew::test {
namespace {

using sparsity::BlockGrid;
using sparsity::BsrPattern;
using sparsity::LinearWeight;
using sparsity::MaskBytes;
using sparsity::PatternPtr;

constexpr BlockGrid kGrid{.rows = 40, .cols = 56, .block = 16};  // 3 × 4 blocks, ragged

PatternPtr pattern_of(std::uint8_t every, const Stream& stream) {
  MaskBytes mask(static_cast<std::size_t>(kGrid.blocks()), 1);
  for (std::size_t i = 0; i < mask.size(); i += every) mask[i] = 0;
  return std::make_shared<const BsrPattern>(kGrid, mask, stream);
}

// What a layer of live blocks goes through, with what comes out on the way.
class Layer {
 public:
  Layer(const Stream& stream, std::optional<DType> dtype)
      : stream_(stream),
        weight_("w", random({kGrid.rows, kGrid.cols}, DType::kFloat32, 1)),
        context_{.training = true, .dtype = dtype} {
    weight_.keep_live_blocks(pattern_of(5, stream_));
  }

  LinearWeight& weight() { return weight_; }
  ag::Parameter& parameter() { return weight_.parameter(); }
  const std::vector<Tensor>& outputs() const { return outputs_; }
  Tensor values() const { return context_.leaf_of(weight_.parameter()).value(); }
  const Tensor& kept() const { return context_.leaf_of(weight_.parameter()).folded()->kept(); }

  // As a product through a dense one would.
  void keep() {
    context_.leaf_of(parameter()).folded()->of(values(), weight_.pattern()->index(), stream_);
  }
  bool stale() const { return kept().defined() && !same_bytes(on_cpu(kept()), on_cpu(dense())); }

  void micro_batch(std::uint64_t seed) {
    const DType dtype = context_.dtype.value_or(DType::kFloat32);
    ag::Variable x(random({23, kGrid.cols}, dtype, seed), /*requires_grad=*/true);
    const ag::Variable y = weight_.product(x, ag::Variable(), kernels::Activation::kNone, context_);
    ag::backward(y, random(y.shape(), dtype, seed + 100));
    outputs_.push_back(on_cpu(y.value()));
    outputs_.push_back(on_cpu(x.grad()));
  }
  void infer(std::uint64_t seed) {
    ag::ForwardContext context = context_;
    context.training = false;
    const ag::Variable x(random({5, kGrid.cols}, context_.dtype.value_or(DType::kFloat32), seed));
    outputs_.push_back(
        on_cpu(weight_.product(x, ag::Variable(), kernels::Activation::kNone, context).value()));
  }

 private:
  Tensor random(const Shape& shape, DType dtype, std::uint64_t seed) const {
    return to(rounded(random_tensor(shape, DType::kFloat32, make_cpu_stream(), seed), dtype),
              stream_);
  }
  Tensor dense() const { return sparsity::scatter(values(), *weight_.pattern()); }

  Stream stream_;
  LinearWeight weight_;
  ag::ForwardContext context_;
  std::vector<Tensor> outputs_;
};

enum class Fault : std::uint8_t { kNone, kWrittenBehind };

// Steps of two micro-batches and an evaluation, a refresh among them, by dense products that keep W
// or do not.
std::vector<Tensor> train(bool keep, Fault fault, optim::OptimizerKind kind,
                          std::optional<DType> dtype) {
  const Stream stream = make_stream(test_stream().device);
  auto& settings = stream.state->get<kernels::BsrSettings>(stream);
  settings.folding = kernels::BsrFolding::kFolded;
  settings.keep_folded = keep;
  stream.state->get<kernels::ProductSettings>(stream).deterministic = true;
  Layer layer(stream, dtype);
  const auto optimizer =
      optim::make_optimizer({.kind = kind, .schedule = {}}, {&layer.parameter()});
  for (std::uint64_t step = 0; step < 4; ++step) {
    layer.micro_batch(2 * step);
    if (fault == Fault::kWrittenBehind && step == 2)
      layer.values().rows(1, 1).fill_zero();
    CHECK(layer.kept().defined() == (keep && on_gpu()));
    layer.micro_batch(2 * step + 1);
    optimizer->step(0.1);
    CHECK_FALSE(layer.kept().defined());
    layer.infer(50 + step);
    if (step == 1)
      optimizer->remap("w", layer.weight().set_pattern(pattern_of(3, stream)));
    layer.parameter().var.zero_grad();
  }
  return layer.outputs();
}

bool same(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), same_bytes);
}

constexpr optim::OptimizerKind kKinds[] = {optim::OptimizerKind::kAdamW,
                                           optim::OptimizerKind::kSgd};

}  // namespace

TEST_CASE("products that share a folded weight train as those that fold it anew, to the last bit") {
  std::vector<std::optional<DType>> dtypes{std::nullopt};
  if (on_gpu())
    dtypes.emplace_back(DType::kBFloat16);
  for (const optim::OptimizerKind kind : kKinds) {
    for (const std::optional<DType> dtype : dtypes) {
      CAPTURE(dtype.has_value());
      const std::vector<Tensor> anew = train(/*keep=*/false, Fault::kNone, kind, dtype);
      CHECK(same(train(/*keep=*/true, Fault::kNone, kind, dtype), anew));
      // What is written without a word is found: by products that fold anew, and by no others.
      const std::vector<Tensor> written = train(/*keep=*/false, Fault::kWrittenBehind, kind, dtype);
      CHECK_FALSE(same(written, anew));
      CHECK(same(train(/*keep=*/true, Fault::kWrittenBehind, kind, dtype), written) != on_gpu());
    }
  }
}

TEST_CASE("no folded weight outlives a change of the live blocks") {
  for (const optim::OptimizerKind kind : kKinds) {
    const Stream& stream = test_stream();
    Layer layer(stream, std::nullopt);
    const auto optimizer =
        optim::make_optimizer({.kind = kind, .schedule = {}}, {&layer.parameter()});
    const auto check_after = [&](const char* what, const auto& change) {
      CAPTURE(what);
      layer.keep();
      CHECK_FALSE(layer.stale());
      change();
      CHECK_FALSE(layer.kept().defined());
      layer.keep();
      CHECK_FALSE(layer.stale());
    };
    check_after("an optimizer", [&] {
      layer.micro_batch(1);
      optimizer->step(0.1);
    });
    check_after("a refresh",
                [&] { optimizer->remap("w", layer.weight().set_pattern(pattern_of(3, stream))); });
    check_after("a resume", [&] {
      layer.weight().restore(sparsity::Storage::kLiveBlocks, layer.weight().pattern(),
                             layer.values().clone(), Tensor());
    });
    check_after("a load", [&] { layer.parameter().var.mutable_value().fill_zero(); });

    // The check finds what was written without a word.
    layer.values().rows(0, 1).copy_from(
        to(random_tensor({1, 16, 16}, DType::kFloat32, make_cpu_stream(), 9), stream));
    CHECK(layer.stale());
  }
}

}  // namespace hew::test
