#include <cmath>

#include "kernels/rotary.h"

namespace hew::kernels {
namespace {

// Fewer elements than this are not worth a second thread.
constexpr std::int64_t kParallel = 8192;

}  // namespace

template <class T>
void rotary(Cpu backend, const Rotary& args) {
  const Shape& shape = args.x.shape;
  const std::int64_t batch = shape[0];
  const std::int64_t time = shape[1];
  const std::int64_t heads = shape[2];
  const std::int64_t half = shape[3] / 2;
  Tensor table = Tensor::empty({time, 2, half}, kDTypeOf<T>, backend.stream);
  T* const angles = table.data<T>();
  const double direction = args.inverse ? -1 : 1;
  Tensor frequencies = Tensor::empty({half}, DType::kFloat64, backend.stream);
  double* const frequency = frequencies.data<double>();
  for (std::int64_t j = 0; j < half; ++j) {
    frequency[j] = std::pow(args.theta, -static_cast<double>(j) / static_cast<double>(half));
  }
#pragma omp parallel for if (args.x.numel() > kParallel)
  for (std::int64_t t = 0; t < time; ++t) {
    T* const cosine = angles + t * 2 * half;
    T* const sine = cosine + half;
    // In double: a float32 angle of a thousand radians is off by 1e-4.
    for (std::int64_t j = 0; j < half; ++j) {
      const double angle = static_cast<double>(args.offset + t) * frequency[j];
      cosine[j] = static_cast<T>(std::cos(angle));
      sine[j] = static_cast<T>(direction * std::sin(angle));
    }
    for (std::int64_t b = 0; b < batch; ++b) {
      for (std::int64_t h = 0; h < heads; ++h) {
        const std::int64_t at = ((b * time + t) * heads + h) * 2 * half;
        const T* x = args.x.as<T>() + at;
        T* y = args.y.as<T>() + at;
#pragma omp simd
        for (std::int64_t j = 0; j < half; ++j) {
          const T first = x[j];
          const T second = x[j + half];
          y[j] = first * cosine[j] - second * sine[j];
          y[j + half] = second * cosine[j] + first * sine[j];
        }
      }
    }
  }
}

template void rotary<float>(Cpu, const Rotary&);
template void rotary<double>(Cpu, const Rotary&);

}  // namespace hew::kernels
