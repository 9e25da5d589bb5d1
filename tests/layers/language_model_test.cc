// GPT-2 and Llama against the numpy models of tests/python/reference_models.py.

#include "layers/language_model.h"
#include "kernels/product_settings.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "autograd/cross_entropy.h"
#include "io/safetensors.h"
#include "kernels/elementwise.h"
#include "sparsity/sparsifier.h"
#include "tests/support/compare.h"
#include "tests/support/device.h"
#include "tests/support/golden.h"

namespace hew {
namespace {

using layers::LanguageModel;
using layers::ModelConfig;
using sparsity::LinearWeight;

// Half of it relative to the element, a tenth of it relative to the tensor's largest element.
double tolerance_of(DType dtype) {
  return dtype == DType::kFloat32 ? 1e-5 : 1e-9;
}

Tensor cast_to(const Tensor& x, DType dtype) {
  if (x.dtype() == dtype)
    return x;
  Tensor out = Tensor::empty(x.shape(), dtype, x.stream());
  kernels::cast(x, out, x.stream());
  return out;
}

double largest(const Tensor& x) {
  double out = 0;
  for (const double value : cast_to(x, DType::kFloat64).to_vector<double>()) {
    out = std::max(out, std::abs(value));
  }
  return out;
}

struct Pass {
  Tensor logits;                            // [B·T, V]; undefined from training_pass
  Tensor loss;                              // []
  std::map<std::string, Tensor> gradients;  // of matrices as [N, K], whatever their storage
};

// Of matrices as [N, K].
std::map<std::string, Tensor> gradients_of(LanguageModel& model) {
  std::map<std::string, Tensor> out;
  for (const ag::Parameter* p : model.parameters()) out[p->name] = p->var.grad();
  for (const LinearWeight* weight : model.linear_weights()) {
    if (weight->storage() != sparsity::Storage::kLiveBlocks)
      continue;
    Tensor& gradient = out.at(weight->name());
    gradient = sparsity::scatter(gradient, *weight->pattern());
  }
  return out;
}

// A recorded model, its input and what comes out of it.
class Golden {
 public:
  explicit Golden(const std::string& family, const Stream& stream = test::test_stream())
      : stream_(stream), file_(test::golden_path(family + "_tiny.safetensors")) {}

  Tensor read(const std::string& name) const { return file_.read(name, stream_); }
  Tensor targets() const { return flat(read("targets")); }

  ModelConfig config() const {
    const auto model = nlohmann::json::parse(file_.metadata().at("model"));
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

  // The recorded parameters, by name, all of them.
  std::unique_ptr<LanguageModel> model(DType dtype) const { return model(dtype, config()); }

  std::unique_ptr<LanguageModel> model(DType dtype, const ModelConfig& config) const {
    auto out = std::make_unique<LanguageModel>(
        config, layers::Initializer{.seed = 1, .dtype = dtype, .stream = stream_});
    const std::vector<std::string> names = file_.names();
    const auto recorded = std::count_if(names.begin(), names.end(), [](const std::string& name) {
      return name.starts_with("parameter/");
    });
    CHECK(out->parameters().size() == static_cast<std::size_t>(recorded));
    for (ag::Parameter* p : out->parameters()) {
      p->var.mutable_value().copy_from(cast_to(read("parameter/" + p->name), dtype));
    }
    return out;
  }

  Pass pass(LanguageModel& model) const {
    ag::ForwardContext context{.training = true};
    const ag::Variable logits = model.forward(read("ids"), context);
    const ag::Variable loss = ag::cross_entropy(logits, targets());
    ag::backward(loss);
    return {.logits = logits.value(), .loss = loss.value(), .gradients = gradients_of(model)};
  }

  // As training goes through a model: the logits never exist all at once.
  Pass training_pass(LanguageModel& model, ag::ForwardContext context) const {
    context.training = true;
    const ag::Variable loss = model.loss(read("ids"), read("targets"), /*scale=*/1, context);
    ag::backward(loss);
    return {.logits = {}, .loss = loss.value(), .gradients = gradients_of(model)};
  }

  // The pass against what is recorded: each element to within the tolerance of the tensor's
  // largest. Rounding in float32 alone moves small elements by 2e-6 of that, and moves with the
  // compiler.
  void check(const Pass& pass, DType dtype) const {
    const double tolerance = tolerance_of(dtype);
    const Tensor logits = read("logits");
    HEW_CHECK_CLOSE(pass.logits, logits, tolerance / 2, tolerance / 2 * largest(logits));
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
  static Tensor flat(const Tensor& x) { return x.reshape({x.numel()}); }

  Stream stream_;
  SafetensorsReader file_;
};

// Puts every linear weight into live blocks that a fixed random choice leaves at `sparsity`.
void make_sparse(LanguageModel& model, double sparsity) {
  sparsity::SparsityRule rule;
  rule.match = {"*"};
  rule.method = sparsity::Method::kStatic;
  rule.block = 8;
  sparsity::apply_method(rule);
  rule.schedule.initial = sparsity;
  rule.schedule.final = sparsity;
  sparsity::Sparsifier sparsifier({rule}, model.linear_weights(), model.config().layers,
                                  /*seed=*/3);
  sparsifier.initialise();
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
    CHECK_FALSE(test::compare(golden.pass(*model).logits, logits, tolerance_of(DType::kFloat64),
                              tolerance_of(DType::kFloat64) * largest(logits))
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
    const Pass pass = golden.pass(*sparse);
    Pass expected = golden.pass(*dense);
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
  for (const std::string& family : kFamilies) {
    CAPTURE(family);
    const Golden host(family, make_cpu_stream());
    const Pass expected = host.training_pass(*host.model(DType::kFloat64), {});
    for (const Case& c : cases) {
      CAPTURE(c.tolerance);
      const Golden golden(family);
      const Pass pass = golden.training_pass(*golden.model(c.weights), {.dtype = c.activations});
      HEW_CHECK_CLOSE(pass.loss, expected.loss, c.tolerance);
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
        const Pass kept = pass(/*recompute_blocks=*/false, /*remake_elementwise=*/false);
        for (const auto& [recompute_blocks, remake_elementwise] :
             {std::pair{true, false}, {false, true}, {true, true}}) {
          CAPTURE(recompute_blocks);
          CAPTURE(remake_elementwise);
          const Pass again = pass(recompute_blocks, remake_elementwise);
          CHECK(test::same_bytes(again.loss, kept.loss));
          for (const auto& entry : again.gradients) {
            const std::string& name = entry.first;
            CAPTURE(name);
            CHECK(test::same_bytes(entry.second, kept.gradients.at(name)));
          }
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
