// GPT-2 and Llama against the numpy models of tests/python/reference_models.py.

#include "layers/language_model.h"

#include <doctest/doctest.h>

#include <memory>
#include <optional>
#include <utility>

#include "autograd/cross_entropy.h"
#include "kernels/product_settings.h"
#include "tests/support/compare.h"
#include "tests/support/device.h"
#include "tests/support/golden_model.h"

namespace hew {
namespace {

using layers::LanguageModel;
using layers::ModelConfig;
using sparsity::LinearWeight;
using test::ModelPass;

// The recorded model of that family.
class Golden : public test::GoldenModel {
 public:
  explicit Golden(const std::string& family, const Stream& stream = test::test_stream())
      : GoldenModel(family, stream) {}

  Tensor targets() const { return flat(read("targets")); }

  ModelConfig config() const {
    const nlohmann::json model = shape();
    return {.family = *parse_named<layers::ModelFamily>(model.at("family").get<std::string>()),
            .layers = model.at("layers"),
            .heads = model.at("heads"),
            .kv_heads = model.at("kv_heads"),
            .width = model.at("width"),
            .mlp_width = model.at("mlp_width"),
            .context = model.at("context"),
            .vocab = model.at("vocab"),
            .tied_embeddings = model.at("tied_embeddings"),
            .bias = model.at("bias"),
            .norm_eps = model.at("norm_eps"),
            .rope_theta = model.at("rope_theta")};
  }

  std::unique_ptr<LanguageModel> model(DType dtype) const { return model(dtype, config()); }

  std::unique_ptr<LanguageModel> model(DType dtype, const ModelConfig& config) const {
    auto out = std::make_unique<LanguageModel>(
        config, layers::Initializer{.seed = 1, .dtype = dtype, .stream = stream()});
    fill(*out, dtype);
    return out;
  }

  ModelPass pass(LanguageModel& model) const {
    ag::ForwardContext context{.training = true};
    const ag::Variable logits = model.forward(read("ids"), context);
    const ag::Variable loss = ag::cross_entropy(logits, targets());
    ag::backward(loss);
    return {.logits = logits.value(), .loss = loss.value(), .gradients = test::gradients_of(model)};
  }

  // As training goes through a model: the logits never exist all at once.
  ModelPass training_pass(LanguageModel& model, ag::ForwardContext context) const {
    context.training = true;
    const ag::Variable loss = model.loss(read("ids"), read("targets"), /*scale=*/1, context);
    ag::backward(loss);
    return {.logits = {}, .loss = loss.value(), .gradients = test::gradients_of(model)};
  }

 private:
  static Tensor flat(const Tensor& x) { return x.reshape({x.numel()}); }
};

// Puts every linear weight into live blocks that a fixed random choice leaves at `sparsity`.
void make_sparse(LanguageModel& model, double sparsity) {
  test::make_sparse(model, test::rule_for_all(sparsity::Method::kStatic, sparsity));
}

const std::vector<std::string> kFamilies{"gpt2", "llama"};

}  // namespace

TEST_CASE("loss, logits and all gradients agree with the numpy models") {
  for (const std::string& family : kFamilies) {
    for (const DType dtype : {DType::kFloat32, DType::kFloat64}) {
      CAPTURE(family);
      CAPTURE(name_of(dtype));
      const Golden golden(family);
      const auto model = golden.model(dtype);
      golden.check(golden.pass(*model), dtype);
    }
  }
}

TEST_CASE("the comparison notices a norm whose epsilon is a tenth too large") {
  for (const std::string& family : kFamilies) {
    CAPTURE(family);
    const Golden golden(family);
    ModelConfig config = golden.config();
    config.norm_eps *= 1.1;
    const auto model = golden.model(DType::kFloat64, config);
    const Tensor logits = golden.read("logits");
    CHECK_FALSE(test::compare(golden.pass(*model).logits, logits,
                              test::golden_tolerance(DType::kFloat64),
                              test::golden_tolerance(DType::kFloat64) * test::largest(logits))
                    .ok);
  }
}

TEST_CASE("with all blocks live, block-sparse weights give the same") {
  for (const std::string& family : kFamilies) {
    for (const DType dtype : {DType::kFloat32, DType::kFloat64}) {
      CAPTURE(family);
      CAPTURE(name_of(dtype));
      const Golden golden(family);
      const auto model = golden.model(dtype);
      make_sparse(*model, 0.0);
      for (const LinearWeight* weight : model->linear_weights()) {
        CHECK(weight->storage() == sparsity::Storage::kLiveBlocks);
      }
      golden.check(golden.pass(*model), dtype);
    }
  }
}

TEST_CASE("a sparse model is the dense model with zeros, gradients restricted to live blocks") {
  constexpr double kTolerance = 1e-12;
  for (const std::string& family : kFamilies) {
    CAPTURE(family);
    const Golden golden(family);
    const auto sparse = golden.model(DType::kFloat64);
    const auto dense = golden.model(DType::kFloat64);
    make_sparse(*sparse, 0.5);
    const std::vector<LinearWeight*> weights = sparse->linear_weights();
    const std::vector<LinearWeight*> twins = dense->linear_weights();
    for (std::size_t i = 0; i < weights.size(); ++i) {
      twins[i]->parameter().var.mutable_value().copy_from(weights[i]->folded());
    }
    const ModelPass pass = golden.pass(*sparse);
    ModelPass expected = golden.pass(*dense);
    for (const LinearWeight* weight : weights) {
      Tensor& gradient = expected.gradients.at(weight->name());
      gradient =
          sparsity::scatter(sparsity::gather(gradient, *weight->pattern()), *weight->pattern());
    }
    HEW_CHECK_CLOSE(pass.logits, expected.logits, kTolerance, kTolerance);
    HEW_CHECK_CLOSE(pass.loss, expected.loss, kTolerance);
    for (const auto& entry : pass.gradients) {
      const std::string& name = entry.first;
      CAPTURE(name);
      HEW_CHECK_CLOSE(entry.second, expected.gradients.at(name), kTolerance, kTolerance);
    }
  }
}

TEST_CASE("a whole model's gradients on a GPU are those of the CPU in float64") {
  if (!test::on_gpu())
    return;  // there is nothing to compare
  for (const std::string& family : kFamilies) {
    CAPTURE(family);
    const Golden host(family, make_cpu_stream());
    const ModelPass expected = host.training_pass(*host.model(DType::kFloat64), {});
    for (const test::GpuPrecision& c : test::gpu_precisions()) {
      CAPTURE(c.tolerance);
      const Golden golden(family);
      const ModelPass pass =
          golden.training_pass(*golden.model(c.weights), {.dtype = c.activations});
      test::check_gpu_pass(pass, expected, c, host);
    }
  }
}

// Else the two may find different algorithms of the library to be the fastest.
struct DeterministicProducts {
  explicit DeterministicProducts(const Stream& stream)
      : settings(stream.device.is_cpu() ? nullptr
                                        : &stream.state->get<kernels::ProductSettings>(stream)) {
    if (settings != nullptr)
      settings->deterministic = true;
  }
  DeterministicProducts(const DeterministicProducts&) = delete;
  DeterministicProducts& operator=(const DeterministicProducts&) = delete;
  ~DeterministicProducts() {
    if (settings != nullptr)
      settings->deterministic = false;
  }
  kernels::ProductSettings* settings;
};

TEST_CASE("blocks computed once more, and norms made again, give the same bits") {
  const DeterministicProducts deterministic(test::test_stream());
  std::vector<std::optional<DType>> activations{DType::kFloat32};
  if (test::on_gpu())
    activations.emplace_back(DType::kBFloat16);  // on the CPU that is storage
  for (const std::string& family : kFamilies) {
    for (const double sparsity : {0.0, 0.5}) {
      for (const std::optional<DType> dtype : activations) {
        CAPTURE(family);
        CAPTURE(sparsity);
        CAPTURE(name_of(*dtype));
        const Golden golden(family);
        auto pass = [&](bool recompute_blocks, bool remake_elementwise) {
          ModelConfig config = golden.config();
          config.dropout = 0.2;
          const auto model = golden.model(DType::kFloat32, config);
          if (sparsity > 0)
            make_sparse(*model, sparsity);
          return golden.training_pass(*model, {.seed = 5,
                                               .dtype = dtype,
                                               .recompute_blocks = recompute_blocks,
                                               .remake_activations = remake_elementwise,
                                               .remake_norms = remake_elementwise});
        };
        const ModelPass kept = pass(/*recompute_blocks=*/false, /*remake_elementwise=*/false);
        for (const auto& [recompute_blocks, remake_elementwise] :
             {std::pair{true, false}, {false, true}, {true, true}}) {
          CAPTURE(recompute_blocks);
          CAPTURE(remake_elementwise);
          test::check_same_bits(pass(recompute_blocks, remake_elementwise), kept);
        }
      }
    }
  }
}

TEST_CASE("a model without biases has none, in its norms either") {
  LanguageModel model({.layers = 1,
                       .heads = 1,
                       .kv_heads = 1,
                       .width = 8,
                       .mlp_width = 8,
                       .context = 3,
                       .vocab = 5,
                       .bias = false},
                      {.seed = 1, .stream = test::test_stream()});
  for (const ag::Parameter* parameter : model.parameters()) {
    CHECK(!parameter->name.ends_with(".bias"));
  }
  ag::ForwardContext context;
  const Tensor ids = Tensor::from(std::vector<std::int32_t>{1, 4, 2}, {1, 3}, test::test_stream());
  CHECK(model.forward(ids, context).shape() == Shape{3, 5});
}

TEST_CASE("logits through the key-value cache are those of the whole sequence") {
  for (const std::string& family : kFamilies) {
    CAPTURE(family);
    const Golden golden(family);
    const auto model = golden.model(DType::kFloat64);
    const std::int64_t context = model->config().context;
    const Tensor ids = golden.read("ids").rows(1, 1);  // [1, T]
    const Tensor wanted = golden.read("logits").rows(ids.size(1), ids.size(1));
    layers::KvCache cache{.capacity = context, .length = 0, .layers = {}};
    ag::ForwardContext forward{.training = false};
    std::int64_t done = 0;
    for (const std::int64_t tokens : {4, 1, 1, 3, 1, 1}) {
      const Tensor next = ids.reshape({ids.size(1)}).rows(done, tokens).reshape({1, tokens});
      const ag::Variable logits = model->forward(next, forward, &cache);
      CHECK_FALSE(logits.requires_grad());
      HEW_CHECK_CLOSE(logits.value(), wanted.rows(done, tokens), 1e-10, 1e-10);
      done += tokens;
      CHECK(cache.length == done);
    }
    CHECK(done == context);
    CHECK_THROWS_AS(
        model->forward(ids.reshape({ids.size(1)}).rows(0, 1).reshape({1, 1}), forward, &cache),
        ShapeError);
  }
}

}  // namespace hew
