#include "tests/support/golden_model.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "sparsity/sparsifier.h"
#include "tests/support/compare.h"
#include "tests/support/device.h"

namespace hew::test {

using sparsity::LinearWeight;

std::map<std::string, Tensor> gradients_of(layers::Model& model) {
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

std::vector<double> values_of(const Tensor& x) {
  return rounded(on_cpu(x), DType::kFloat64).to_vector<double>();
}

double golden_tolerance(DType dtype) {
  return dtype == DType::kFloat32 ? 1e-5 : 1e-9;
}

GoldenModel::GoldenModel(const std::string& name, const Stream& stream)
    : stream_(stream), file_(golden_path(name + "_tiny.safetensors")) {}

void GoldenModel::fill(layers::Model& model, DType dtype) const {
  const std::vector<std::string> names = file_.names();
  const auto recorded = std::count_if(names.begin(), names.end(), [](const std::string& name) {
    return name.starts_with("parameter/");
  });
  CHECK(model.parameters().size() == static_cast<std::size_t>(recorded));
  for (ag::Parameter* p : model.parameters()) {
    p->var.mutable_value().copy_from(rounded(read("parameter/" + p->name), dtype));
  }
}

void GoldenModel::check(const ModelPass& pass, DType dtype) const {
  const double half = golden_tolerance(dtype) / 2;
  if (pass.logits.defined()) {
    const Tensor logits = read("logits");
    HEW_CHECK_CLOSE(pass.logits, logits, half, half * largest(logits));
  }
  HEW_CHECK_CLOSE(pass.loss.reshape({1}), read("loss"), golden_tolerance(dtype));
  for (const auto& entry : pass.gradients) {
    const std::string& name = entry.first;
    CAPTURE(name);
    HEW_CHECK_CLOSE(entry.second, read("gradient/" + name), half, half * gradient_scale(name));
  }
}

double GoldenModel::gradient_scale(const std::string& name) const {
  const double own = largest(read("gradient/" + name));
  if (!name.ends_with(".bias"))
    return own;
  const std::string matrix = name.substr(0, name.size() - std::string(".bias").size());
  return std::max(own, largest(read("gradient/" + matrix + ".weight")));
}

std::vector<GpuPrecision> gpu_precisions() {
  // In bfloat16 some forty roundings lie on the way through two blocks and back. In the worst of
  // all elements of all tensors they may all point the same way.
  constexpr double kRoundings = 40;
  return {{DType::kFloat64, {}, 1e-9},
          {DType::kFloat32, {}, 1e-5},
          {DType::kFloat32, DType::kBFloat16, kRoundings * unit_roundoff(DType::kBFloat16)}};
}

void check_gpu_pass(const ModelPass& pass, const ModelPass& expected, const GpuPrecision& precision,
                    const GoldenModel& golden) {
  HEW_CHECK_CLOSE(pass.loss, expected.loss, precision.tolerance);
  for (const auto& entry : pass.gradients) {
    const std::string& name = entry.first;
    CAPTURE(name);
    CHECK(entry.second.dtype() == precision.weights);
    HEW_CHECK_CLOSE(entry.second, expected.gradients.at(name), 0,
                    precision.tolerance * golden.gradient_scale(name));
  }
}

void check_same_bits(const ModelPass& pass, const ModelPass& expected) {
  CHECK(same_bytes(pass.loss, expected.loss));
  for (const auto& entry : pass.gradients) {
    const std::string& name = entry.first;
    CAPTURE(name);
    CHECK(same_bytes(entry.second, expected.gradients.at(name)));
  }
}

sparsity::SparsityRule rule_for_all(sparsity::Method method, double sparsity, std::int64_t block) {
  sparsity::SparsityRule rule;
  rule.match = {"*"};
  rule.method = method;
  rule.block = block;
  sparsity::apply_method(rule);
  rule.schedule.initial = sparsity;
  rule.schedule.final = sparsity;
  return rule;
}

void make_sparse(layers::Model& model, const sparsity::SparsityRule& rule) {
  sparsity::Sparsifier sparsifier({rule}, model.linear_weights(), model.config().layers,
                                  /*seed=*/3);
  sparsifier.initialise();
}

}  // namespace hew::test
