#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "io/safetensors.h"
#include "layers/model.h"
#include "sparsity/rule.h"
#include "tests/support/golden.h"

namespace hew::test {

/// What a model gave: gradients by name, of matrices as [N, K] whatever their storage.
struct ModelPass {
  Tensor logits;  // may be undefined
  Tensor loss;    // []
  std::map<std::string, Tensor> gradients;
};

std::map<std::string, Tensor> gradients_of(layers::Model& model);

/// Values in float64 on the host.
std::vector<double> values_of(const Tensor& x);

/// How far a pass may be from a recorded one. Rounding in float32 alone moves small elements by
/// 2e-6 of the tensor's largest, and moves with the compiler.
double golden_tolerance(DType dtype);

/// A model of tests/golden/, its input and what comes out of it.
class GoldenModel {
 public:
  /// Reads `<name>_tiny.safetensors` to the stream's device.
  GoldenModel(const std::string& name, const Stream& stream);

  Tensor read(const std::string& name) const { return file_.read(name, stream_); }
  const std::string& metadata(const std::string& key) const { return file_.metadata().at(key); }
  nlohmann::json shape() const { return nlohmann::json::parse(metadata("model")); }
  const Stream& stream() const { return stream_; }

  /// Gives a model the recorded parameters; checks that it has no others.
  void fill(layers::Model& model, DType dtype) const;

  /// Checks a pass against what is recorded: each element to within half the tolerance of itself
  /// and half of the tensor's largest.
  void check(const ModelPass& pass, DType dtype) const;

  /// The largest element; of a bias that of its matrix if larger, since a key bias, which shifts
  /// all scores of a query alike, has a gradient of rounding only.
  double gradient_scale(const std::string& name) const;

 private:
  Stream stream_;
  SafetensorsReader file_;
};

/// What a GPU computes a model in, and how far from float64 on the CPU its gradients may be, as a
/// share of the tensor's largest.
struct GpuPrecision {
  DType weights;
  std::optional<DType> activations;
  double tolerance;
};
std::vector<GpuPrecision> gpu_precisions();
/// `golden` says how large gradients are.
void check_gpu_pass(const ModelPass& pass, const ModelPass& expected, const GpuPrecision& precision,
                    const GoldenModel& golden);

/// Checks that losses and gradients are the same bits.
void check_same_bits(const ModelPass& pass, const ModelPass& expected);

/// A rule for every linear weight, whose sparsity stays.
sparsity::SparsityRule rule_for_all(sparsity::Method method, double sparsity,
                                    std::int64_t block = 8);
/// Puts the model's weights under the rule; random choices are always the same.
void make_sparse(layers::Model& model, const sparsity::SparsityRule& rule);

}  // namespace hew::test
