#include "kernels/activation_math.cuh"
#include "kernels/map.cuh"
#include "kernels/swiglu.h"

namespace hew::kernels {
namespace {

template <class D>
struct Forward {
  using A = ComputeType<D>;
  __device__ void operator()(const A (&in)[2], A (&y)[1]) const {
    y[0] = in[1] * in[0] * logistic<D>(in[0]).value;
  }
};

// gate, up, dy to dgate, dup.
template <class D>
struct Backward {
  using A = ComputeType<D>;
  __device__ void operator()(const A (&in)[3], A (&out)[2]) const {
    const auto s = logistic<D>(in[0]);
    out[0] = in[2] * in[1] * (s.value + in[0] * s.slope);
    out[1] = in[2] * in[0] * s.value;
  }
};

}  // namespace

template <class T>
void swiglu_forward(Cuda backend, const ConstView& gate, const ConstView& up, const View& y) {
  using D = OnDevice<T>;
  map<D>(backend, "swiglu", {elements<T>(gate), elements<T>(up)}, {elements<T>(y)}, gate.numel(),
         Elementwise<Forward<D>>{});
}

template <class T>
void swiglu_backward(Cuda backend, const SwigluBackward& args) {
  using D = OnDevice<T>;
  map<D>(backend, "swiglu_backward",
         {elements<T>(args.gate), elements<T>(args.up), elements<T>(args.dy)},
         {elements<T>(args.dgate), elements<T>(args.dup)}, args.gate.numel(),
         Elementwise<Backward<D>>{});
}

#define HEW_INSTANTIATE(T)                                                                \
  template void swiglu_forward<T>(Cuda, const ConstView&, const ConstView&, const View&); \
  template void swiglu_backward<T>(Cuda, const SwigluBackward&);
HEW_INSTANTIATE(float)
HEW_INSTANTIATE(double)
HEW_INSTANTIATE(BFloat16)
#undef HEW_INSTANTIATE

}  // namespace hew::kernels
