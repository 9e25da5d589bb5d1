#include <limits>

#include "kernels/launch.cuh"
#include "kernels/reduce.cuh"
#include "kernels/soft_cross_entropy.h"
#include "kernels/vectors.cuh"

namespace hew::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kSumThreads = 1024;

// t' = given·keep + floor
template <class A>
struct Smoothing {
  A keep;
  A floor;

  __device__ A of(float given) const { return static_cast<A>(given) * keep + floor; }
};

template <class A>
Smoothing<A> smoothing_of(double smoothing, std::int64_t classes) {
  return {.keep = static_cast<A>(1 - smoothing),
          .floor = static_cast<A>(smoothing / static_cast<double>(classes))};
}

template <class D>
struct Rows {
  const D* logits;
  const float* targets;
  ComputeType<D>* losses;
  ComputeType<D>* lse;
  ComputeType<D>* mass;
  int classes;
  Smoothing<ComputeType<D>> smoothing;
};

// One block a row, of which there are few: it is read three times, twice from a cache.
template <class D>
__global__ void __launch_bounds__(kThreads) loss_kernel(Rows<D> args) {
  using A = ComputeType<D>;
  const std::int64_t m = blockIdx.x;
  const D* logits = args.logits + m * args.classes;
  const float* targets = args.targets + m * args.classes;
  const auto thread = static_cast<int>(threadIdx.x);

  A largest = std::numeric_limits<A>::lowest();
  for (int v = thread; v < args.classes; v += kThreads) {
    const A z = widen(logits[v]);
    largest = z > largest || z != z ? z : largest;  // a NaN stays
  }
  largest = block_max<kThreads>(largest);

  A sum = 0;
  A mass = 0;
  for (int v = thread; v < args.classes; v += kThreads) {
    sum += exp(widen(logits[v]) - largest);
    mass += args.smoothing.of(targets[v]);
  }
  const A lse = largest + log(block_sum<kThreads>(sum));
  mass = block_sum<kThreads>(mass);

  A loss = 0;
  for (int v = thread; v < args.classes; v += kThreads) {
    loss += args.smoothing.of(targets[v]) * (lse - widen(logits[v]));
  }
  loss = block_sum<kThreads>(loss);
  if (thread == 0) {
    args.lse[m] = lse;
    args.mass[m] = mass;
    args.losses[m] = loss;
  }
}

// One block.
template <class A>
__global__ void __launch_bounds__(kSumThreads)
    mean_kernel(const A* losses, std::int64_t rows, double weight, A* mean) {
  double sum = 0;
  for (std::int64_t m = threadIdx.x; m < rows; m += kSumThreads) {
    sum += static_cast<double>(losses[m]);
  }
  sum = block_sum<kSumThreads>(sum);
  if (threadIdx.x == 0)
    *mean = static_cast<A>(weight * sum);
}

template <class D>
struct BackwardRows {
  const D* logits;
  const float* targets;
  const ComputeType<D>* lse;
  const ComputeType<D>* mass;
  const ComputeType<D>* dmean;
  D* dlogits;
  int classes;
  ComputeType<D> weight;
  Smoothing<ComputeType<D>> smoothing;
};

template <class D>
__global__ void __launch_bounds__(kThreads) backward_kernel(BackwardRows<D> args) {
  using A = ComputeType<D>;
  const std::int64_t m = blockIdx.x;
  const std::int64_t row = m * args.classes;
  const A factor = *args.dmean * args.weight;
  const A lse = args.lse[m];
  const A mass = args.mass[m];
  for (int v = static_cast<int>(threadIdx.x); v < args.classes; v += kThreads) {
    const A probability = exp(widen(args.logits[row + v]) - lse);
    args.dlogits[row + v] =
        narrow<D>(factor * (mass * probability - args.smoothing.of(args.targets[row + v])));
  }
}

}  // namespace

template <class T>
void soft_cross_entropy(Cuda backend, const SoftCrossEntropy& args) {
  using D = OnDevice<T>;
  using A = ComputeType<D>;
  const std::int64_t rows = args.logits.shape[0];
  const std::int64_t classes = args.logits.shape[1];
  const Rows<D> on_device{.logits = elements<T>(args.logits),
                          .targets = elements<float>(args.targets),
                          .losses = elements<Accumulator<T>>(args.losses),
                          .lse = elements<Accumulator<T>>(args.lse),
                          .mass = elements<Accumulator<T>>(args.mass),
                          .classes = static_cast<int>(classes),
                          .smoothing = smoothing_of<A>(args.smoothing, classes)};
  if (rows > 0) {
    loss_kernel<<<static_cast<unsigned int>(rows), kThreads, 0, native(backend)>>>(on_device);
    check_launch("soft_cross_entropy");
  }
  const double weight = rows == 0 ? 0 : args.scale / static_cast<double>(rows);
  mean_kernel<<<1, kSumThreads, 0, native(backend)>>>(on_device.losses, rows, weight,
                                                      elements<Accumulator<T>>(args.mean));
  check_launch("soft_cross_entropy");
}

template <class T>
void soft_cross_entropy_backward(Cuda backend, const SoftCrossEntropyBackward& args) {
  using D = OnDevice<T>;
  using A = ComputeType<D>;
  const std::int64_t rows = args.logits.shape[0];
  const std::int64_t classes = args.logits.shape[1];
  if (rows == 0)
    return;
  const BackwardRows<D> on_device{.logits = elements<T>(args.logits),
                                  .targets = elements<float>(args.targets),
                                  .lse = elements<Accumulator<T>>(args.lse),
                                  .mass = elements<Accumulator<T>>(args.mass),
                                  .dmean = elements<Accumulator<T>>(args.dmean),
                                  .dlogits = elements<T>(args.dlogits),
                                  .classes = static_cast<int>(classes),
                                  .weight = static_cast<A>(args.scale / static_cast<double>(rows)),
                                  .smoothing = smoothing_of<A>(args.smoothing, classes)};
  backward_kernel<<<static_cast<unsigned int>(rows), kThreads, 0, native(backend)>>>(on_device);
  check_launch("soft_cross_entropy_backward");
}

#define HEW_SOFT_CROSS_ENTROPY(T)                                     \
  template void soft_cross_entropy<T>(Cuda, const SoftCrossEntropy&); \
  template void soft_cross_entropy_backward<T>(Cuda, const SoftCrossEntropyBackward&);
HEW_SOFT_CROSS_ENTROPY(float)
HEW_SOFT_CROSS_ENTROPY(double)
HEW_SOFT_CROSS_ENTROPY(BFloat16)
#undef HEW_SOFT_CROSS_ENTROPY

}  // namespace hew::kernels
