#include "kernels/map.cuh"
#include "kernels/sgd.h"

namespace hew::kernels {
namespace {

template <class A>
struct Numbers {
  explicit Numbers(const SgdStep& settings)
      : lr(static_cast<A>(settings.lr)),
        momentum(static_cast<A>(settings.momentum)),
        decay(static_cast<A>(settings.weight_decay)),
        scale(static_cast<A>(settings.grad_scale)),
        of_d(settings.nesterov ? A(1) : A(0)),
        of_buffer(settings.nesterov ? momentum : A(1)) {}
  A lr;
  A momentum;
  A decay;
  A scale;
  A of_d;  // the direction is of_d·d + of_buffer·buffer
  A of_buffer;
};

// g, w to w.
template <class A>
struct Descent {
  Numbers<A> numbers;
  __device__ void operator()(const A (&in)[2], A (&w)[1]) const {
    w[0] = in[1] - numbers.lr * (numbers.scale * in[0] + numbers.decay * in[1]);
  }
};

// g, w, buffer to w, buffer.
template <class A>
struct Momentum {
  Numbers<A> numbers;
  __device__ void operator()(const A (&in)[3], A (&out)[2]) const {
    const A d = numbers.scale * in[0] + numbers.decay * in[1];
    out[1] = numbers.momentum * in[2] + d;
    out[0] = in[1] - numbers.lr * (numbers.of_d * d + numbers.of_buffer * out[1]);
  }
};

}  // namespace

template <class T>
void sgd(Cuda backend, const SgdStep& settings, const ConstView& g, const View& w,
         const View& buffer) {
  using D = OnDevice<T>;
  using A = ComputeType<D>;
  const Numbers<A> numbers(settings);
  if (buffer) {
    map<D>(backend, "sgd", {elements<T>(g), elements<T>(w), elements<T>(buffer)},
           {elements<T>(w), elements<T>(buffer)}, w.numel(), Elementwise<Momentum<A>>{{numbers}});
  } else {
    map<D>(backend, "sgd", {elements<T>(g), elements<T>(w)}, {elements<T>(w)}, w.numel(),
           Elementwise<Descent<A>>{{numbers}});
  }
}

template void sgd<float>(Cuda, const SgdStep&, const ConstView&, const View&, const View&);
template void sgd<double>(Cuda, const SgdStep&, const ConstView&, const View&, const View&);
template void sgd<BFloat16>(Cuda, const SgdStep&, const ConstView&, const View&, const View&);

}  // namespace hew::kernels
