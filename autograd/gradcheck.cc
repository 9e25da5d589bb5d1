#include "autograd/gradcheck.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/rng.h"

namespace hew::ag {
namespace {

// Truncation error h⁴ ≈ 1e-12 and rounding error ε/h ≈ 1e-13 balance here.
constexpr double kStep = 1e-3;
constexpr std::uint64_t kProjectionKey = 0x9e3779b97f4a7c15U;

std::vector<Variable> leaves(const std::vector<Tensor>& inputs, bool requires_grad) {
  std::vector<Variable> variables;
  variables.reserve(inputs.size());
  for (const Tensor& t : inputs) variables.emplace_back(t.clone(), requires_grad);
  return variables;
}

double project(const Tensor& output, const std::vector<double>& weights) {
  double sum = 0;
  const std::vector<double> values = output.to_vector<double>();
  for (std::size_t i = 0; i < weights.size(); ++i) sum += values[i] * weights[i];
  return sum;
}

// x[i] ← value, on any device.
void set_element(const Tensor& x, std::size_t i, double value) {
  x.rows(static_cast<std::int64_t>(i), 1)
      .copy_from(Tensor::from(std::vector<double>{value}, {1}, x.stream()));
}

}  // namespace

GradcheckResult gradcheck(const std::function<Variable(const std::vector<Variable>&)>& f,
                          const std::vector<Tensor>& inputs, std::int64_t most) {
  require<Error>(most >= 1, "[gradcheck] {} elements of each input", most);
  for (const Tensor& t : inputs) {
    require<DtypeError>(t.dtype() == DType::kFloat64, "[gradcheck] an input is {}, not float64",
                        name_of(t.dtype()));
  }
  std::vector<Variable> variables = leaves(inputs, /*requires_grad=*/true);
  const Variable output = f(variables);
  std::vector<double> weights(static_cast<std::size_t>(output.value().numel()));
  for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = normal(kProjectionKey, 0, i);
  backward(output, Tensor::from(weights, output.shape(), output.stream()));

  GradcheckResult result;
  for (std::size_t k = 0; k < inputs.size(); ++k) {
    const auto n = static_cast<std::size_t>(inputs[k].numel());
    std::vector<double> analytic(n, 0.0);
    if (variables[k].grad().defined())
      analytic = variables[k].grad().to_vector<double>();
    std::vector<double> numeric(n);
    std::vector<Variable> moved = leaves(inputs, /*requires_grad=*/false);
    const Tensor x = moved[k].mutable_value().reshape({inputs[k].numel()});
    const std::vector<double> centre = inputs[k].to_vector<double>();
    const std::size_t stride = n == 0 ? 1 : 1 + (n - 1) / static_cast<std::size_t>(most);
    double largest = 0;
    for (const double gradient : analytic) largest = std::max(largest, std::abs(gradient));
    for (std::size_t i = 0; i < n; i += stride) {
      auto at = [&](double offset) {
        set_element(x, i, centre[i] + offset);
        return project(f(moved).value(), weights);
      };
      numeric[i] =
          (-at(2 * kStep) + 8 * at(kStep) - 8 * at(-kStep) + at(-2 * kStep)) / (12 * kStep);
      set_element(x, i, centre[i]);
      largest = std::max(largest, std::abs(numeric[i]));
    }
    for (std::size_t i = 0; i < n; i += stride) {
      const double scale =
          std::max({std::abs(analytic[i]), std::abs(numeric[i]), 1e-3 * largest, 1e-7});
      const double error = std::abs(analytic[i] - numeric[i]) / scale;
      if (!(error <= result.max_relative_error)) {
        result.max_relative_error = error;
        result.worst = fmt::format("input {} element {}: analytic {:.12g}, numeric {:.12g}", k, i,
                                   analytic[i], numeric[i]);
        if (std::isnan(error))
          return result;
      }
    }
  }
  return result;
}

}  // namespace hew::ag
