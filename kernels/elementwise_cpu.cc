#include <omp.h>

#include <algorithm>
#include <vector>

#include "kernels/elementwise.h"

namespace hew::kernels {
namespace {

// Partial sums cover this many elements whatever the number of threads.
constexpr std::int64_t kChunk = 8192;

template <class From, class To>
void cast_elements(const ConstView& x, const View& y) {
  const From* from = x.as<From>();
  To* to = y.as<To>();
  for (std::int64_t i = 0; i < x.numel(); ++i) {
    if constexpr (std::is_same_v<From, BFloat16>) {
      to[i] = static_cast<To>(static_cast<float>(from[i]));
    } else if constexpr (std::is_same_v<To, BFloat16>) {
      to[i] = BFloat16(static_cast<float>(from[i]));
    } else {
      to[i] = static_cast<To>(from[i]);
    }
  }
}

template <class From>
void cast_from(const ConstView& x, const View& y) {
  if (y.dtype == DType::kFloat32)
    return cast_elements<From, float>(x, y);
  if (y.dtype == DType::kFloat64)
    return cast_elements<From, double>(x, y);
  if constexpr (std::is_same_v<From, BFloat16>) {
    std::copy_n(x.as<BFloat16>(), x.numel(), y.as<BFloat16>());
  } else {
    cast_elements<From, BFloat16>(x, y);
  }
}

}  // namespace

template <class T>
void add(Cpu /*backend*/, const ConstView& a, const ConstView& b, const View& y) {
  const T* pa = a.as<T>();
  const T* pb = b.as<T>();
  T* py = y.as<T>();
  const std::int64_t n = a.numel();
#pragma omp parallel for simd if (n > kChunk)
  for (std::int64_t i = 0; i < n; ++i) py[i] = pa[i] + pb[i];
}

template <class T>
void multiply(Cpu /*backend*/, const ConstView& a, const ConstView& b, const View& y) {
  const T* pa = a.as<T>();
  const T* pb = b.as<T>();
  T* py = y.as<T>();
  const std::int64_t n = a.numel();
#pragma omp parallel for simd if (n > kChunk)
  for (std::int64_t i = 0; i < n; ++i) py[i] = pa[i] * pb[i];
}

template <class T>
void scaled_sum(Cpu /*backend*/, std::span<const ConstView> terms, double factor, const View& y) {
  T* py = y.as<T>();
  const auto f = static_cast<T>(factor);
  const std::int64_t n = y.numel();
#pragma omp parallel for if (n > kChunk)
  for (std::int64_t i = 0; i < n; ++i) {
    T sum = terms[0].as<T>()[i];
    for (std::size_t k = 1; k < terms.size(); ++k) sum += terms[k].as<T>()[i];
    py[i] = f * sum;
  }
}

template <class T>
void scale(Cpu /*backend*/, double factor, const View& y) {
  T* py = y.as<T>();
  const auto f = static_cast<T>(factor);
  const std::int64_t n = y.numel();
#pragma omp parallel for simd if (n > kChunk)
  for (std::int64_t i = 0; i < n; ++i) py[i] *= f;
}

template <class T>
void scale_by(Cpu backend, const ConstView& factor, const View& y) {
  scale<T>(backend, static_cast<double>(*factor.as<T>()), y);
}

template <class T>
void fill(Cpu /*backend*/, double value, const View& y) {
  std::fill_n(y.as<T>(), y.numel(), static_cast<T>(value));
}

template <class T>
void add_broadcast(Cpu /*backend*/, const ConstView& x, const ConstView& b, const View& y) {
  const std::int64_t inner = b.numel();
  const std::int64_t outer = inner == 0 ? 0 : x.numel() / inner;
  const T* pb = b.as<T>();
#pragma omp parallel for if (x.numel() > kChunk)
  for (std::int64_t i = 0; i < outer; ++i) {
    const T* px = x.as<T>() + i * inner;
    T* py = y.as<T>() + i * inner;
    for (std::int64_t j = 0; j < inner; ++j) py[j] = px[j] + pb[j];
  }
}

template <class T>
void sum_leading(Cpu /*backend*/, const ConstView& x, const View& y) {
  // Columns of one thread: at least a few whole cache lines. Each column is added up in the order
  // of rows, however they are shared out.
  constexpr std::int64_t kMinColumns = 64;
  constexpr std::int64_t kMaxColumns = 512;
  const std::int64_t inner = y.numel();
  const std::int64_t outer = inner == 0 ? 0 : x.numel() / inner;
  const std::int64_t threads = omp_get_max_threads();
  const std::int64_t share = (inner + threads - 1) / threads;
  const std::int64_t columns =
      std::clamp((share + kMinColumns - 1) / kMinColumns * kMinColumns, kMinColumns, kMaxColumns);
  T* py = y.as<T>();
#pragma omp parallel for if (x.numel() > kChunk)
  for (std::int64_t begin = 0; begin < inner; begin += columns) {
    const std::int64_t end = std::min(begin + columns, inner);
    std::fill(py + begin, py + end, T{0});
    for (std::int64_t i = 0; i < outer; ++i) {
      const T* px = x.as<T>() + i * inner;
      for (std::int64_t j = begin; j < end; ++j) py[j] += px[j];
    }
  }
}

template <class T>
double sum_of_squares(Cpu /*backend*/, const ConstView& x) {
  const T* px = x.as<T>();
  const std::int64_t n = x.numel();
  std::vector<double> partial(static_cast<std::size_t>((n + kChunk - 1) / kChunk));
#pragma omp parallel for
  for (std::int64_t begin = 0; begin < n; begin += kChunk) {
    const std::int64_t end = std::min(begin + kChunk, n);
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (std::int64_t i = begin; i < end; ++i) {
      sum += static_cast<double>(px[i]) * static_cast<double>(px[i]);
    }
    partial[static_cast<std::size_t>(begin / kChunk)] = sum;
  }
  double total = 0;
  for (const double p : partial) total += p;
  return total;
}

void cast(Cpu /*backend*/, const ConstView& x, const View& y) {
  if (x.dtype == DType::kFloat32)
    return cast_from<float>(x, y);
  if (x.dtype == DType::kFloat64)
    return cast_from<double>(x, y);
  cast_from<BFloat16>(x, y);
}

#define HEW_INSTANTIATE(T)                                                              \
  template void add<T>(Cpu, const ConstView&, const ConstView&, const View&);           \
  template void multiply<T>(Cpu, const ConstView&, const ConstView&, const View&);      \
  template void scaled_sum<T>(Cpu, std::span<const ConstView>, double, const View&);    \
  template void scale<T>(Cpu, double, const View&);                                     \
  template void scale_by<T>(Cpu, const ConstView&, const View&);                        \
  template void fill<T>(Cpu, double, const View&);                                      \
  template void add_broadcast<T>(Cpu, const ConstView&, const ConstView&, const View&); \
  template void sum_leading<T>(Cpu, const ConstView&, const View&);                     \
  template double sum_of_squares<T>(Cpu, const ConstView&);
HEW_INSTANTIATE(float)
HEW_INSTANTIATE(double)
#undef HEW_INSTANTIATE

}  // namespace hew::kernels
