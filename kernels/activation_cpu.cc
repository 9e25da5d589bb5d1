#include <cmath>
#include <unsupported/Eigen/SpecialFunctions>

#include "kernels/activation.h"
#include "kernels/array_map.h"
#include "kernels/elementwise.h"

namespace hew::kernels {
namespace {

// Long enough to amortise a thread's start, short enough to stay in its first-level cache.
constexpr std::int64_t kChunk = 2048;

// On the stack: a step does not allocate.
template <class T>
using ChunkArray = Eigen::Array<T, Eigen::Dynamic, 1, Eigen::ColMajor, kChunk, 1>;

template <class T>
constexpr T kSqrtTwoOverPi = T(0.79788456080286535588);
template <class T>
constexpr T kSqrtHalf = T(0.70710678118654752440);
template <class T>
constexpr T kInvSqrtTwoPi = T(0.39894228040143267794);
template <class T>
constexpr T kGeluCubic = T(0.044715);

template <class T>
void derivative(Activation activation, const ConstArrayMap<T>& x, const ConstArrayMap<T>& dy,
                ArrayMap<T>& dx) {
  switch (activation) {
    case Activation::kNone:
      dx = dy;
      break;
    case Activation::kRelu:
      dx = (x > T(0)).select(dy, T(0));
      break;
    case Activation::kGelu:
      dx = dy * (T(0.5) * (T(1) + (x * kSqrtHalf<T>).erf()) +
                 x * kInvSqrtTwoPi<T> * (T(-0.5) * x.square()).exp());
      break;
    case Activation::kGeluTanh: {
      const ChunkArray<T> t = (kSqrtTwoOverPi<T> * x * (T(1) + kGeluCubic<T> * x.square())).tanh();
      dx = dy * T(0.5) *
           (T(1) + t +
            x * (T(1) - t.square()) * kSqrtTwoOverPi<T> *
                (T(1) + T(3) * kGeluCubic<T> * x.square()));
      break;
    }
    case Activation::kSilu: {
      const ChunkArray<T> s = T(1) / (T(1) + (-x).exp());
      dx = dy * s * (T(1) + x * (T(1) - s));
      break;
    }
  }
}

}  // namespace

template <class T>
void apply_activation(Activation activation, const T* x, T* y, std::int64_t n) {
  const ConstArrayMap<T> in(x, n);
  ArrayMap<T> out(y, n);
  switch (activation) {
    case Activation::kNone:
      out = in;
      break;
    case Activation::kRelu:
      out = in.max(T(0));
      break;
    case Activation::kGelu:
      out = T(0.5) * in * (T(1) + (in * kSqrtHalf<T>).erf());
      break;
    case Activation::kGeluTanh:
      out = T(0.5) * in *
            (T(1) + (kSqrtTwoOverPi<T> * in * (T(1) + kGeluCubic<T> * in.square())).tanh());
      break;
    case Activation::kSilu:
      out = in / (T(1) + (-in).exp());
      break;
  }
}

template <class T>
void activation_forward(Cpu /*backend*/, Activation activation, const ConstView& x, const View& y) {
  const std::int64_t n = x.numel();
#pragma omp parallel for if (n > kChunk)
  for (std::int64_t begin = 0; begin < n; begin += kChunk) {
    apply_activation(activation, x.as<T>() + begin, y.as<T>() + begin, std::min(kChunk, n - begin));
  }
}

template <class T>
void activation_backward(Cpu backend, const ActivationBackward& args) {
  const std::int64_t n = args.x.numel();
#pragma omp parallel for if (n > kChunk)
  for (std::int64_t begin = 0; begin < n; begin += kChunk) {
    const std::int64_t count = std::min(kChunk, n - begin);
    ArrayMap<T> out(args.dx.as<T>() + begin, count);
    derivative<T>(args.activation, ConstArrayMap<T>(args.x.as<T>() + begin, count),
                  ConstArrayMap<T>(args.dy.as<T>() + begin, count), out);
  }
  if (args.dbias)
    sum_leading<T>(backend, args.dx, args.dbias);
  if (args.y)
    activation_forward<T>(backend, args.activation, args.x, args.y);
}

#define HEW_INSTANTIATE(T)                                                             \
  template void apply_activation<T>(Activation, const T*, T*, std::int64_t);           \
  template void activation_forward<T>(Cpu, Activation, const ConstView&, const View&); \
  template void activation_backward<T>(Cpu, const ActivationBackward&);
HEW_INSTANTIATE(float)
HEW_INSTANTIATE(double)
#undef HEW_INSTANTIATE

}  // namespace hew::kernels
