#include "optim/clip.h"

#include "kernels/global_norm.h"

namespace hew::optim {

GradientNorm::GradientNorm(Tensor result, std::vector<const ag::Parameter*> parameters)
    : result_(std::move(result)), parameters_(std::move(parameters)) {}

const std::vector<double>& GradientNorm::read() const {
  if (values_.empty())
    values_ = result_.rows(0, kernels::kNormFields).to_vector<double>();
  return values_;
}

const ag::Parameter* GradientNorm::bad() const {
  const double index = read()[2];
  return index < 0 ? nullptr : parameters_[static_cast<std::size_t>(index)];
}

ConstView GradientNorm::scale() const {
  return std::as_const(result_).rows(1, 1).reshape({});
}

GradientNorm gradient_norm(std::span<ag::Parameter* const> parameters, double max_norm) {
  std::vector<ConstView> gradients;
  std::vector<const ag::Parameter*> owners;
  for (const ag::Parameter* p : parameters) {
    if (!p->var.grad().defined())
      continue;
    gradients.emplace_back(p->var.grad());
    owners.push_back(p);
  }
  const Stream stream = owners.empty() ? make_cpu_stream() : owners.front()->var.grad().stream();
  Tensor result =
      Tensor::empty({kernels::kNormFields + std::ssize(gradients)}, DType::kFloat64, stream);
  kernels::global_norm(gradients, max_norm, result, stream);
  return {std::move(result), std::move(owners)};
}

}  // namespace hew::optim
