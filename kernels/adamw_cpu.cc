#include <Eigen/Core>
#include <algorithm>
#include <array>
#include <cmath>
#include <type_traits>
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
std::vector<BiasCorrection<T>> bias_corrections(const AdamWStep& s, double lr,
                                                const ConstView& birth) {
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
      entry->second = {.step_size = static_cast<T>(lr / (1 - std::pow(s.beta1, t))),
                       .root2 = static_cast<T>(std::sqrt(1 - std::pow(s.beta2, t)))};
    }
    out.push_back(entry->second);
  }
  return out;
}

// A stretch of a stored moment, in the dtype it is computed in: where it lies, or a copy that goes
// back, rounded, at the end.
template <class T, class M>
class Moment {
 public:
  Moment(const View& stored, std::int64_t begin, std::int64_t count)
      : stored_(stored.as<M>() + begin), count_(count) {
    if constexpr (!kInPlace) {
      std::transform(stored_, stored_ + count_, copy_.begin(),
                     [](M x) { return static_cast<T>(static_cast<float>(x)); });
    }
  }
  T* data() {
    if constexpr (kInPlace) {
      return stored_;
    } else {
      return copy_.data();
    }
  }
  void put_back() const {
    if constexpr (!kInPlace) {
      std::transform(copy_.begin(), copy_.begin() + count_, stored_,
                     [](T x) { return M(static_cast<float>(x)); });
    }
  }

 private:
  static constexpr bool kInPlace = std::is_same_v<T, M>;

  M* stored_;
  std::int64_t count_;
  std::array<T, kInPlace ? 1 : kChunk> copy_;
};

template <class T, class M>
void update(const AdamWStep& settings, const AdamWTensors& tensors, T grad_scale,
            const std::vector<BiasCorrection<T>>& corrections) {
  using Array = Eigen::Array<T, Eigen::Dynamic, 1>;
  const std::int64_t n = tensors.w.numel();
  if (n == 0)
    return;
  const std::int64_t slice = n / tensors.birth.numel();
  const auto beta1 = static_cast<T>(settings.beta1);
  const auto beta2 = static_cast<T>(settings.beta2);
  const auto keep1 = static_cast<T>(1 - settings.beta1);
  const auto keep2 = static_cast<T>(1 - settings.beta2);
  const auto decay = static_cast<T>(1 - settings.lr * tensors.weight_decay);
  const auto eps = static_cast<T>(settings.eps);
#pragma omp parallel for if (n > kChunk)
  for (std::int64_t chunk = 0; chunk < n; chunk += kChunk) {
    const std::int64_t end = std::min(chunk + kChunk, n);
    for (std::int64_t begin = chunk; begin < end;) {
      const std::int64_t index = begin / slice;
      const std::int64_t count = std::min(end, (index + 1) * slice) - begin;
      const BiasCorrection<T> correction = corrections[static_cast<std::size_t>(index)];
      Moment<T, M> stored_first(tensors.m, begin, count);
      Moment<T, M> stored_second(tensors.v, begin, count);
      const auto grad = Eigen::Map<const Array>(tensors.g.as<T>() + begin, count) * grad_scale;
      Eigen::Map<Array> weight(tensors.w.as<T>() + begin, count);
      Eigen::Map<Array> first(stored_first.data(), count);
      Eigen::Map<Array> second(stored_second.data(), count);
      first = beta1 * first + keep1 * grad;
      second = beta2 * second + keep2 * grad.square();
      weight =
          decay * weight - correction.step_size * first / (second.sqrt() / correction.root2 + eps);
      stored_first.put_back();
      stored_second.put_back();
      if (tensors.working) {
        std::transform(weight.data(), weight.data() + count, tensors.working.as<BFloat16>() + begin,
                       [](T x) { return BFloat16(static_cast<float>(x)); });
      }
      begin += count;
    }
  }
}

}  // namespace

template <class T>
void adamw(Cpu /*backend*/, const AdamWStep& settings, std::span<const AdamWTensors> tensors) {
  const double grad_scale = settings.grad_scale ? *settings.grad_scale.as<double>() : 1;
  if (!std::isfinite(grad_scale))
    return;
  std::vector<std::vector<BiasCorrection<T>>> corrections;  // all, before anything is written
  corrections.reserve(tensors.size());
  for (const AdamWTensors& one : tensors) {
    corrections.push_back(bias_corrections<T>(settings, settings.lr * one.lr_factor, one.birth));
  }
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (tensors[i].m.dtype == DType::kBFloat16) {
      update<T, BFloat16>(settings, tensors[i], static_cast<T>(grad_scale), corrections[i]);
    } else {
      update<T, T>(settings, tensors[i], static_cast<T>(grad_scale), corrections[i]);
    }
  }
}

template void adamw<float>(Cpu, const AdamWStep&, std::span<const AdamWTensors>);
template void adamw<double>(Cpu, const AdamWStep&, std::span<const AdamWTensors>);

}  // namespace hew::kernels
