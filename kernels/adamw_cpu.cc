#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <unordered_map>
#include <vector>

#include "kernels/adamw.h"

namespace hew::kernels {
namespace {

// Four arrays of this many floats stay in a first-level cache.
constexpr std::int64_t kChunk = 2048;

template <class T>
struct BiasCorrection {
  T step_size;  // lr/(1 − β1^t)
  T root2;      // √(1 − β2^t)
};

template <class T>
std::vector<BiasCorrection<T>> bias_corrections(const AdamWStep& s, const ConstView& birth) {
  std::vector<BiasCorrection<T>> out;
  out.reserve(static_cast<std::size_t>(birth.numel()));
  // Many blocks, few births: one a refresh.
  std::unordered_map<std::int64_t, BiasCorrection<T>> by_birth;
  for (std::int64_t i = 0; i < birth.numel(); ++i) {
    const std::int64_t born = birth.as<std::int64_t>()[i];
    const auto [entry, fresh] = by_birth.try_emplace(born);
    if (fresh) {
      require<ConfigError>(born <= s.step, "[adamw] slice {} is born at step {}, after step {}", i,
                           born, s.step);
      const auto t = static_cast<double>(s.step - born + 1);
      entry->second = {.step_size = static_cast<T>(s.lr / (1 - std::pow(s.beta1, t))),
                       .root2 = static_cast<T>(std::sqrt(1 - std::pow(s.beta2, t)))};
    }
    out.push_back(entry->second);
  }
  return out;
}

}  // namespace

template <class T>
void adamw(Cpu /*backend*/, const AdamWStep& settings, const AdamWTensors& tensors) {
  using Array = Eigen::Array<T, Eigen::Dynamic, 1>;
  const std::int64_t n = tensors.w.numel();
  if (n == 0)
    return;
  const std::vector<BiasCorrection<T>> corrections = bias_corrections<T>(settings, tensors.birth);
  const std::int64_t slice = n / tensors.birth.numel();
  const auto beta1 = static_cast<T>(settings.beta1);
  const auto beta2 = static_cast<T>(settings.beta2);
  const auto keep1 = static_cast<T>(1 - settings.beta1);
  const auto keep2 = static_cast<T>(1 - settings.beta2);
  const auto decay = static_cast<T>(1 - settings.lr * settings.weight_decay);
  const auto eps = static_cast<T>(settings.eps);
  const auto grad_scale = static_cast<T>(settings.grad_scale);
#pragma omp parallel for if (n > kChunk)
  for (std::int64_t chunk = 0; chunk < n; chunk += kChunk) {
    const std::int64_t end = std::min(chunk + kChunk, n);
    for (std::int64_t begin = chunk; begin < end;) {
      const std::int64_t index = begin / slice;
      const std::int64_t count = std::min(end, (index + 1) * slice) - begin;
      const BiasCorrection<T> correction = corrections[static_cast<std::size_t>(index)];
      const auto grad = Eigen::Map<const Array>(tensors.g.as<T>() + begin, count) * grad_scale;
      Eigen::Map<Array> weight(tensors.w.as<T>() + begin, count);
      Eigen::Map<Array> first(tensors.m.as<T>() + begin, count);
      Eigen::Map<Array> second(tensors.v.as<T>() + begin, count);
      first = beta1 * first + keep1 * grad;
      second = beta2 * second + keep2 * grad.square();
      weight =
          decay * weight - correction.step_size * first / (second.sqrt() / correction.root2 + eps);
      begin += count;
    }
  }
}

template void adamw<float>(Cpu, const AdamWStep&, const AdamWTensors&);
template void adamw<double>(Cpu, const AdamWStep&, const AdamWTensors&);

}  // namespace hew::kernels
