// The vision transformer against the numpy model of tests/python/reference_vit.py.

#include "layers/vision_transformer.h"

#include <doctest/doctest.h>

#include "core/error.h"
#include "tests/layers/golden_vit.h"
#include "tests/support/compare.h"
#include "tests/support/device.h"
#include "tests/support/gradients.h"
#include "tests/support/random.h"

namespace hew {
namespace {

using layers::ModelConfig;
using layers::VisionTransformer;
using sparsity::LinearWeight;
using test::GoldenVit;
using test::ModelPass;

ModelConfig small_config(layers::Pooling pooling) {
  ModelConfig config{.family = layers::ModelFamily::kVit,
                     .layers = 2,
                     .heads = 2,
                     .kv_heads = 2,
                     .width = 4,
                     .mlp_width = 6,
                     .activation = kernels::Activation::kGelu,
                     .norm_eps = 1e-6,
                     .init_std = 0.3,
                     .image_size = 4,
                     .channels = 1,
                     .patch_size = 2,
                     .classes = 3,
                     .pooling = pooling};
  config.context = config.image_tokens();
  return config;
}

// Random images with one-hot targets.
struct Samples {
  Tensor images;
  Tensor targets;
};
Samples samples_for(const ModelConfig& config, std::int64_t batch) {
  const Stream& stream = test::test_stream();
  std::vector<float> hot(static_cast<std::size_t>(batch * config.classes), 0.0F);
  for (std::int64_t b = 0; b < batch; ++b)
    hot[static_cast<std::size_t>(b * config.classes + (2 * b + 1) % config.classes)] = 1;
  return {
      .images = test::random_tensor({batch, config.channels, config.image_size, config.image_size},
                                    DType::kFloat32, stream, 5),
      .targets = Tensor::from(hot, {batch, config.classes}, stream)};
}

}  // namespace

TEST_CASE("loss, logits and all gradients agree with the numpy model") {
  for (const std::string& pooling : test::kPoolings) {
    for (const DType dtype : {DType::kFloat32, DType::kFloat64}) {
      CAPTURE(pooling);
      CAPTURE(name_of(dtype));
      const GoldenVit golden(pooling);
      const auto model = golden.model(dtype);
      const Tensor logits = golden.read("logits");
      const double tolerance = test::golden_tolerance(dtype);
      HEW_CHECK_CLOSE(golden.logits(*model), logits, tolerance / 2,
                      tolerance / 2 * test::largest(logits));
      golden.check(golden.pass(*model), dtype);
    }
  }
}

TEST_CASE("the comparison notices a tanh GELU, and a causal mask") {
  const GoldenVit golden("cls");
  const Tensor logits = golden.read("logits");
  const auto agrees = [&](const ModelConfig& config) {
    const auto model = golden.model(DType::kFloat64, config);
    return test::compare(golden.logits(*model), logits, 1e-9, 1e-9 * test::largest(logits)).ok;
  };
  ModelConfig config = golden.config();
  CHECK(agrees(config));
  config.activation = kernels::Activation::kGeluTanh;
  CHECK_FALSE(agrees(config));
}

TEST_CASE("with all blocks live, block-sparse weights give the same, head and all") {
  for (const std::string& pooling : test::kPoolings) {
    for (const DType dtype : {DType::kFloat32, DType::kFloat64}) {
      CAPTURE(pooling);
      CAPTURE(name_of(dtype));
      const GoldenVit golden(pooling);
      const auto model = golden.model(dtype);
      test::make_sparse(*model, test::rule_for_all(sparsity::Method::kStatic, 0.0));
      for (const LinearWeight* weight : model->linear_weights()) {
        CHECK(weight->storage() == sparsity::Storage::kLiveBlocks);
      }
      golden.check(golden.pass(*model), dtype);
    }
  }
}

TEST_CASE("a whole ViT's gradients on a GPU are those of the CPU in float64") {
  if (!test::on_gpu())
    return;  // there is nothing to compare
  for (const std::string& pooling : test::kPoolings) {
    CAPTURE(pooling);
    const GoldenVit host(pooling, make_cpu_stream());
    const ModelPass expected = host.pass(*host.model(DType::kFloat64));
    for (const test::GpuPrecision& c : test::gpu_precisions()) {
      CAPTURE(c.tolerance);
      const GoldenVit golden(pooling);
      test::check_gpu_pass(golden.pass(*golden.model(c.weights), {.dtype = c.activations}),
                           expected, c, host);
    }
  }
}

TEST_CASE("all gradients of a small ViT, dropout and stochastic depth on, by central differences") {
  for (const layers::Pooling pooling : {layers::Pooling::kClassToken, layers::Pooling::kMean}) {
    ModelConfig config = small_config(pooling);
    config.dropout = 0.2;
    config.drop_path = 0.5;
    VisionTransformer model(config,
                            {.seed = 2, .dtype = DType::kFloat64, .stream = test::test_stream()});
    const Samples samples = samples_for(config, 3);
    std::vector<ag::Parameter*> parameters = model.parameters();
    // They shift all scores of a query alike: their gradients are 0 but for rounding.
    std::erase_if(parameters, [](const auto* p) { return p->name.ends_with(".attn.k.bias"); });
    std::vector<Tensor> values;
    for (const ag::Parameter* p : parameters) values.push_back(p->value());
    const auto loss = [&](const std::vector<ag::Variable>& in) {
      for (std::size_t i = 0; i < in.size(); ++i) parameters[i]->var = in[i];
      ag::ForwardContext context{.training = true, .seed = 4, .step = 7};
      return model.loss(samples.images, samples.targets, {.smoothing = 0.1}, context);
    };
    const auto result = test::gradcheck(loss, values);
    CHECK_MESSAGE(result.max_relative_error <= 1e-6, result.worst);
  }
}

TEST_CASE("blocks computed once more, and norms made again, give the same bits") {
  if (test::on_gpu())
    return;  // deterministic products: language_model_test
  for (const bool sparse : {false, true}) {
    auto pass = [&](bool recompute_blocks, bool remake) {
      const GoldenVit golden("cls");
      ModelConfig config = golden.config();
      config.dropout = 0.2;
      config.drop_path = 0.4;
      const auto model = golden.model(DType::kFloat32, config);
      if (sparse)
        test::make_sparse(*model, test::rule_for_all(sparsity::Method::kSupermask, 0.5));
      return golden.pass(*model, {.seed = 5,
                                  .recompute_blocks = recompute_blocks,
                                  .remake_activations = remake,
                                  .remake_norms = remake});
    };
    const ModelPass kept = pass(/*recompute_blocks=*/false, /*remake=*/false);
    for (const auto& [recompute_blocks, remake] :
         {std::pair{true, false}, {false, true}, {true, true}}) {
      test::check_same_bits(pass(recompute_blocks, remake), kept);
    }
  }
}

TEST_CASE("what is dropped does not depend on micro-batches; stochastic depth grows with depth") {
  ModelConfig config = small_config(layers::Pooling::kClassToken);
  config.drop_path = 0.5;
  VisionTransformer model(config,
                          {.seed = 2, .dtype = DType::kFloat64, .stream = test::test_stream()});
  const Samples samples = samples_for(config, 6);
  const auto part = [&](std::int64_t begin, std::int64_t count, double scale) {
    return test::training_pass(model, samples.images.rows(begin, count),
                               samples.targets.rows(begin, count), {.scale = scale},
                               {.seed = 4, .step = 3, .first_sample = begin});
  };
  const ModelPass whole = part(0, 6, 1);
  const ModelPass first = part(0, 2, 1.0 / 3);
  const ModelPass second = part(2, 4, 2.0 / 3);
  CHECK(test::values_of(first.loss)[0] + test::values_of(second.loss)[0] ==
        doctest::Approx(test::values_of(whole.loss)[0]).epsilon(1e-12));

  // Without the second block's branches nothing of it is learnt; the first is never skipped.
  config.drop_path = 0.999999;
  VisionTransformer shallow(config,
                            {.seed = 2, .dtype = DType::kFloat64, .stream = test::test_stream()});
  const ModelPass skipped =
      test::training_pass(shallow, samples.images, samples.targets, {}, {.seed = 4, .step = 3});
  CHECK(test::largest(skipped.gradients.at("blocks.1.mlp.up.weight")) == 0);
  CHECK(test::largest(skipped.gradients.at("blocks.1.attn.out.weight")) == 0);
  CHECK(test::largest(skipped.gradients.at("blocks.0.mlp.up.weight")) > 0);
  ag::ForwardContext context;  // evaluation goes through all blocks
  CHECK(test::same_bytes(shallow.forward(samples.images, context).value(),
                         model.forward(samples.images, context).value()));
}

TEST_CASE("a ViT refuses sizes and images that do not fit") {
  const Stream& stream = test::test_stream();
  const auto build = [&](const std::function<void(ModelConfig&)>& change) {
    ModelConfig config = small_config(layers::Pooling::kClassToken);
    change(config);
    VisionTransformer(config, {.seed = 1, .stream = stream});
  };
  CHECK_THROWS_AS(build([](ModelConfig& c) { c.patch_size = 3; }), ConfigError);
  CHECK_THROWS_AS(build([](ModelConfig& c) { c.heads = 3; }), ConfigError);
  CHECK_THROWS_AS(build([](ModelConfig& c) { c.classes = 0; }), ConfigError);
  CHECK_THROWS_AS(build([](ModelConfig& c) { c.context = 4; }), ConfigError);
  const VisionTransformer model(small_config(layers::Pooling::kMean),
                                {.seed = 1, .stream = stream});
  ag::ForwardContext context;
  for (const Shape& shape : {Shape{2, 3, 4, 4}, Shape{2, 1, 4, 6}, Shape{1, 4, 4}}) {
    CHECK_THROWS_AS(model.forward(Tensor::zeros(shape, DType::kFloat32, stream), context),
                    ShapeError);
  }
}

}  // namespace hew
