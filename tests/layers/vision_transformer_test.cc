// The vision transformer against the numpy model of tests/python/reference_vit.py, and under masks.

#include "layers/vision_transformer.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "io/safetensors.h"
#include "sparsity/sparsifier.h"
#include "tests/support/compare.h"
#include "tests/support/device.h"
#include "tests/support/golden.h"
#include "tests/support/gradients.h"
#include "tests/support/random.h"

namespace hew {
namespace {

using layers::ModelConfig;
using layers::VisionTransformer;
using sparsity::LinearWeight;

// Half of it relative to the element, a tenth of it relative to the tensor's largest element.
double tolerance_of(DType dtype) {
  return dtype == DType::kFloat32 ? 1e-5 : 1e-9;
}

std::vector<double> values_of(const Tensor& x) {
  return test::rounded(test::on_cpu(x), DType::kFloat64).to_vector<double>();
}

double largest(const Tensor& x) {
  double out = 0;
  for (const double value : values_of(x)) out = std::max(out, std::abs(value));
  return out;
}

struct Pass {
  Tensor loss;                              // []
  std::map<std::string, Tensor> gradients;  // of live blocks as [N, K]
};

Pass training_pass(VisionTransformer& model, const Tensor& images, const Tensor& targets,
                   const VisionTransformer::LossOptions& options, ag::ForwardContext context) {
  context.training = true;
  for (ag::Parameter* p : model.parameters()) p->var.zero_grad();
  const ag::Variable loss = model.loss(images, targets, options, context);
  ag::backward(loss);
  Pass pass{.loss = loss.value(), .gradients = {}};
  for (const ag::Parameter* p : model.parameters()) pass.gradients[p->name] = p->var.grad();
  for (const LinearWeight* weight : model.linear_weights()) {
    Tensor& gradient = pass.gradients.at(weight->name());
    if (weight->storage() == sparsity::Storage::kLiveBlocks)
      gradient = sparsity::scatter(gradient, *weight->pattern());
  }
  return pass;
}

// A recorded model, its input and what comes out of it.
class Golden {
 public:
  explicit Golden(const std::string& pooling, const Stream& stream = test::test_stream())
      : stream_(stream), file_(test::golden_path("vit_" + pooling + "_tiny.safetensors")) {}

  Tensor read(const std::string& name) const { return file_.read(name, stream_); }

  ModelConfig config() const {
    const auto model = nlohmann::json::parse(file_.metadata().at("model"));
    ModelConfig out{
        .family = layers::ModelFamily::kVit,
        .layers = model.at("layers"),
        .heads = model.at("heads"),
        .kv_heads = model.at("heads"),
        .width = model.at("width"),
        .mlp_width = model.at("mlp_width"),
        .activation = kernels::Activation::kGelu,
        .norm_eps = model.at("norm_eps"),
        .image_size = model.at("image_size"),
        .channels = model.at("channels"),
        .patch_size = model.at("patch_size"),
        .classes = model.at("classes"),
        .pooling = *parse_named<layers::Pooling>(model.at("pooling").get<std::string>())};
    out.context = out.image_tokens();
    return out;
  }

  std::unique_ptr<VisionTransformer> model(DType dtype) const { return model(dtype, config()); }
  std::unique_ptr<VisionTransformer> model(DType dtype, const ModelConfig& config) const {
    auto out = std::make_unique<VisionTransformer>(
        config, layers::Initializer{.seed = 1, .dtype = dtype, .stream = stream_});
    const std::vector<std::string> names = file_.names();
    const auto recorded = std::count_if(names.begin(), names.end(), [](const std::string& name) {
      return name.starts_with("parameter/");
    });
    CHECK(out->parameters().size() == static_cast<std::size_t>(recorded));
    for (ag::Parameter* p : out->parameters()) {
      p->var.mutable_value().copy_from(test::rounded(read("parameter/" + p->name), dtype));
    }
    return out;
  }

  double smoothing() const { return std::stod(file_.metadata().at("smoothing")); }

  Tensor logits(const VisionTransformer& model) const {
    ag::ForwardContext context;
    return model.forward(read("images"), context).value();
  }
  Pass pass(VisionTransformer& model, const ag::ForwardContext& context = {}) const {
    return training_pass(model, read("images"), read("targets"), {.smoothing = smoothing()},
                         context);
  }

  // Each element to within the tolerance of the tensor's largest.
  void check(const Pass& pass, DType dtype) const {
    const double tolerance = tolerance_of(dtype);
    HEW_CHECK_CLOSE(pass.loss.reshape({1}), read("loss"), tolerance);
    for (const auto& entry : pass.gradients) {
      const std::string& name = entry.first;
      CAPTURE(name);
      HEW_CHECK_CLOSE(entry.second, read("gradient/" + name), tolerance / 2,
                      tolerance / 2 * gradient_scale(name));
    }
  }

  // The largest element; of a bias that of its matrix if larger, since a key bias, which shifts all
  // scores of a query alike, has a gradient of rounding only.
  double gradient_scale(const std::string& name) const {
    const double own = largest(read("gradient/" + name));
    if (!name.ends_with(".bias"))
      return own;
    const std::string matrix = name.substr(0, name.size() - std::string(".bias").size());
    return std::max(own, largest(read("gradient/" + matrix + ".weight")));
  }

 private:
  Stream stream_;
  SafetensorsReader file_;
};

sparsity::SparsityRule rule_for(sparsity::Method method, double sparsity, std::int64_t block = 8) {
  sparsity::SparsityRule rule;
  rule.match = {"*"};
  rule.method = method;
  rule.block = block;
  sparsity::apply_method(rule);
  rule.schedule.initial = sparsity;
  rule.schedule.final = sparsity;
  return rule;
}

// Every linear weight of the model, head and patch embedding included, under one rule.
sparsity::Sparsifier make_sparse(VisionTransformer& model, const sparsity::SparsityRule& rule) {
  sparsity::Sparsifier sparsifier({rule}, model.linear_weights(), model.config().layers,
                                  /*seed=*/3);
  sparsifier.initialise();
  return sparsifier;
}

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

const std::vector<std::string> kPoolings{"cls", "mean"};

}  // namespace

TEST_CASE("loss, logits and all gradients agree with the numpy model") {
  for (const std::string& pooling : kPoolings) {
    for (const DType dtype : {DType::kFloat32, DType::kFloat64}) {
      CAPTURE(pooling);
      CAPTURE(name_of(dtype));
      const Golden golden(pooling);
      const auto model = golden.model(dtype);
      const Tensor logits = golden.read("logits");
      const double tolerance = tolerance_of(dtype);
      HEW_CHECK_CLOSE(golden.logits(*model), logits, tolerance / 2,
                      tolerance / 2 * largest(logits));
      golden.check(golden.pass(*model), dtype);
    }
  }
}

TEST_CASE("the comparison notices a tanh GELU, and a causal mask") {
  const Golden golden("cls");
  const Tensor logits = golden.read("logits");
  const auto agrees = [&](const ModelConfig& config) {
    const auto model = golden.model(DType::kFloat64, config);
    return test::compare(golden.logits(*model), logits, 1e-9, 1e-9 * largest(logits)).ok;
  };
  ModelConfig config = golden.config();
  CHECK(agrees(config));
  config.activation = kernels::Activation::kGeluTanh;
  CHECK_FALSE(agrees(config));
}

TEST_CASE("with all blocks live, block-sparse weights give the same, head and all") {
  for (const std::string& pooling : kPoolings) {
    for (const DType dtype : {DType::kFloat32, DType::kFloat64}) {
      CAPTURE(pooling);
      CAPTURE(name_of(dtype));
      const Golden golden(pooling);
      const auto model = golden.model(dtype);
      make_sparse(*model, rule_for(sparsity::Method::kStatic, 0.0));
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
  struct Case {
    DType weights;
    std::optional<DType> activations;
    double tolerance;  // of the tensor's largest
  };
  // In bfloat16 some forty roundings lie on the way through two blocks and back. In the worst of
  // all elements of all tensors they may all point the same way.
  constexpr double kRoundings = 40;
  const std::vector<Case> cases{
      {DType::kFloat64, {}, 1e-9},
      {DType::kFloat32, {}, 1e-5},
      {DType::kFloat32, DType::kBFloat16, kRoundings * test::unit_roundoff(DType::kBFloat16)}};
  for (const std::string& pooling : kPoolings) {
    CAPTURE(pooling);
    const Golden host(pooling, make_cpu_stream());
    const Pass expected = host.pass(*host.model(DType::kFloat64));
    for (const Case& c : cases) {
      CAPTURE(c.tolerance);
      const Golden golden(pooling);
      const Pass pass = golden.pass(*golden.model(c.weights), {.dtype = c.activations});
      HEW_CHECK_CLOSE(pass.loss.reshape({1}), expected.loss.reshape({1}), c.tolerance);
      for (const auto& entry : pass.gradients) {
        const std::string& name = entry.first;
        CAPTURE(name);
        CHECK(entry.second.dtype() == c.weights);
        HEW_CHECK_CLOSE(entry.second, expected.gradients.at(name), 0,
                        c.tolerance * host.gradient_scale(name));
      }
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
      const Golden golden("cls");
      ModelConfig config = golden.config();
      config.dropout = 0.2;
      config.drop_path = 0.4;
      const auto model = golden.model(DType::kFloat32, config);
      if (sparse)
        make_sparse(*model, rule_for(sparsity::Method::kSupermask, 0.5));
      return golden.pass(*model, {.seed = 5,
                                  .recompute_blocks = recompute_blocks,
                                  .remake_activations = remake,
                                  .remake_norms = remake});
    };
    const Pass kept = pass(/*recompute_blocks=*/false, /*remake=*/false);
    for (const auto& [recompute_blocks, remake] :
         {std::pair{true, false}, {false, true}, {true, true}}) {
      const Pass again = pass(recompute_blocks, remake);
      CHECK(test::same_bytes(again.loss, kept.loss));
      for (const auto& entry : again.gradients) {
        const std::string& name = entry.first;
        CAPTURE(name);
        CHECK(test::same_bytes(entry.second, kept.gradients.at(name)));
      }
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
    return training_pass(model, samples.images.rows(begin, count),
                         samples.targets.rows(begin, count), {.scale = scale},
                         {.seed = 4, .step = 3, .first_sample = begin});
  };
  const Pass whole = part(0, 6, 1);
  const Pass first = part(0, 2, 1.0 / 3);
  const Pass second = part(2, 4, 2.0 / 3);
  CHECK(values_of(first.loss)[0] + values_of(second.loss)[0] ==
        doctest::Approx(values_of(whole.loss)[0]).epsilon(1e-12));

  // Without the second block's branches nothing of it is learnt; the first is never skipped.
  config.drop_path = 0.999999;
  VisionTransformer shallow(config,
                            {.seed = 2, .dtype = DType::kFloat64, .stream = test::test_stream()});
  const Pass skipped =
      training_pass(shallow, samples.images, samples.targets, {}, {.seed = 4, .step = 3});
  CHECK(largest(skipped.gradients.at("blocks.1.mlp.up.weight")) == 0);
  CHECK(largest(skipped.gradients.at("blocks.1.attn.out.weight")) == 0);
  CHECK(largest(skipped.gradients.at("blocks.0.mlp.up.weight")) > 0);
  ag::ForwardContext context;  // evaluation goes through all blocks
  CHECK(test::same_bytes(shallow.forward(samples.images, context).value(),
                         model.forward(samples.images, context).value()));
}

TEST_CASE("under a supermask, every gradient is that of methods.md, for dead blocks too") {
  for (const std::string& pooling : kPoolings) {
    CAPTURE(pooling);
    const Golden golden(pooling);
    const auto masked = golden.model(DType::kFloat64);
    const auto folded = golden.model(DType::kFloat64);
    make_sparse(*masked, rule_for(sparsity::Method::kSupermask, 0.6));
    const std::vector<LinearWeight*> weights = masked->linear_weights();
    const std::vector<LinearWeight*> twins = folded->linear_weights();
    for (std::size_t i = 0; i < weights.size(); ++i)
      twins[i]->parameter().var.mutable_value().copy_from(weights[i]->folded());
    const Pass pass = golden.pass(*masked);
    const Pass dense = golden.pass(*folded);
    CHECK(values_of(pass.loss)[0] == doctest::Approx(values_of(dense.loss)[0]).epsilon(1e-12));
    for (const LinearWeight* weight : weights) {
      const std::string& name = weight->name();
      CAPTURE(name);
      const sparsity::BlockGrid& grid = weight->pattern()->grid();
      const sparsity::MaskBytes mask = weight->pattern()->mask();
      CHECK(weight->pattern()->nnzb() == sparsity::kept_blocks(grid.blocks(), 0.6));
      const std::vector<double> w = values_of(weight->parameter().value());
      const std::vector<double> g = values_of(dense.gradients.at(name));  // ∂L/∂(W ⊙ mask)
      const std::vector<double> dw = values_of(pass.gradients.at(name));
      const std::vector<double> ds = values_of(pass.gradients.at(name + ".scores"));
      std::vector<double> wanted(ds.size(), 0.0);
      double worst = 0;
      for (std::int64_t i = 0; i < std::ssize(w); ++i) {
        const auto at = static_cast<std::size_t>(i);
        const std::int64_t row = i / grid.cols / grid.block;
        const std::int64_t col = i % grid.cols / grid.block;
        const auto block = static_cast<std::size_t>(row * grid.block_cols() + col);
        wanted[block] += g[at] * w[at];
        if (mask[block] == 0)
          REQUIRE(dw[at] == 0);
        else
          worst = std::max(worst, std::abs(dw[at] - g[at]));
      }
      CHECK(worst <= 1e-12);
      bool dead_moves = false;  // a block whose results all end in dead blocks has a gradient of 0
      for (std::size_t block = 0; block < ds.size(); ++block) {
        CHECK(ds[block] == doctest::Approx(wanted[block]).epsilon(1e-9).scale(1e-3));
        dead_moves = dead_moves || (mask[block] == 0 && ds[block] != 0);
      }
      CHECK(dead_moves);
    }
  }
}

// The mask as a number of each block: 1 where live, 0 where dead. The loss is smooth in it.
TEST_CASE("a score's gradient is the slope of the loss in its block's share of the product") {
  const Golden golden("cls");
  const auto masked = golden.model(DType::kFloat64);
  make_sparse(*masked, rule_for(sparsity::Method::kSupermask, 0.5));
  const Pass pass = golden.pass(*masked);
  for (const char* name : {"head.weight", "blocks.1.attn.out.weight", "blocks.0.mlp.down.weight",
                           "patch_embedding.weight"}) {
    CAPTURE(name);
    const std::vector<LinearWeight*> weights = masked->linear_weights();
    const LinearWeight& weight =
        **std::ranges::find_if(weights, [&](const LinearWeight* w) { return w->name() == name; });
    const sparsity::BlockGrid& grid = weight.pattern()->grid();
    const std::vector<double> ds = values_of(pass.gradients.at(std::string(name) + ".scores"));
    const std::vector<double> w = values_of(weight.parameter().value());
    const auto loss_at = [&](std::int64_t block, double t) {
      const auto dense = golden.model(DType::kFloat64);
      const std::vector<LinearWeight*> twins = dense->linear_weights();
      for (std::size_t i = 0; i < weights.size(); ++i) {
        std::vector<double> values = values_of(weights[i]->folded());
        for (std::int64_t e = 0; weights[i]->name() == name && e < std::ssize(values); ++e) {
          const std::int64_t own =
              e / grid.cols / grid.block * grid.block_cols() + e % grid.cols / grid.block;
          if (own == block)
            values[static_cast<std::size_t>(e)] += t * w[static_cast<std::size_t>(e)];
        }
        Tensor& target = twins[i]->parameter().var.mutable_value();
        target.copy_from(Tensor::from(values, target.shape(), test::test_stream()));
      }
      ag::ForwardContext context;
      return values_of(dense
                           ->loss(golden.read("images"), golden.read("targets"),
                                  {.smoothing = golden.smoothing()}, context)
                           .value())[0];
    };
    constexpr double kStep = 1e-4;
    for (std::int64_t block = 0; block < grid.blocks(); block += 3) {
      const double slope = (loss_at(block, kStep) - loss_at(block, -kStep)) / (2 * kStep);
      CHECK(ds[static_cast<std::size_t>(block)] ==
            doctest::Approx(slope).epsilon(1e-6).scale(1e-3));
    }
  }
}

TEST_CASE("SuperBlock's matrices keep the counts of methods.md in a ViT-B block and its head") {
  ModelConfig config{.family = layers::ModelFamily::kVit,
                     .layers = 1,
                     .heads = 12,
                     .kv_heads = 12,
                     .width = 768,
                     .mlp_width = 3072,
                     .activation = kernels::Activation::kGelu,
                     .image_size = 32,
                     .channels = 3,
                     .patch_size = 16,
                     .classes = 1000};
  config.context = config.image_tokens();
  struct Case {
    std::int64_t block;
    double sparsity;
    std::int64_t mlp;
    std::int64_t head;  // 1000 rows: the last of its block rows is ragged
  };
  // head: ⌈1000/b⌉·768/b blocks, of which n − round(s·(n − 1)) are kept
  for (const Case& c : {Case{16, 0.7, 2765, 908}, {32, 0.8, 462, 154}, {64, 0.9, 58, 20}}) {
    CAPTURE(c.block);
    VisionTransformer model(config, {.seed = 2, .stream = test::test_stream()});
    make_sparse(model, rule_for(sparsity::Method::kSupermask, c.sparsity, c.block));
    for (const LinearWeight* weight : model.linear_weights()) {
      const std::string& name = weight->name();
      if (name.find(".mlp.") != std::string::npos)
        CHECK(weight->pattern()->nnzb() == c.mlp);
      if (name == "head.weight")
        CHECK(weight->pattern()->nnzb() == c.head);
    }
  }
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
