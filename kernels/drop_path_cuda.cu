#include "core/rng.h"
#include "kernels/drop_path.h"
#include "kernels/launch.cuh"
#include "kernels/vectors.cuh"

namespace hew::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kBatch = 4;  // packs of a thread

template <class D>
struct Drop {
  const D* x;
  D* y;
  std::int64_t length;  // of a sample
  std::int64_t chunks;  // blocks of a sample
  DropPathOptions options;
};

// A block belongs to one sample. What is dropped is not read.
template <int n, class D>
__global__ void __launch_bounds__(kThreads) drop_path_kernel(Drop<D> args) {
  using A = ComputeType<D>;
  const std::int64_t sample = blockIdx.x / args.chunks;
  const std::int64_t chunk = blockIdx.x - sample * args.chunks;
  const DropPathOptions& options = args.options;
  const bool keep = uniform(options.key, options.stream,
                            options.first_sample + static_cast<std::uint64_t>(sample)) >=
                    static_cast<float>(options.p);
  const A factor = A(1) / (A(1) - static_cast<A>(options.p));
  const std::int64_t first = (chunk * kBatch * kThreads + threadIdx.x) * n;
  const D* from = args.x + sample * args.length;
  D* to = args.y + sample * args.length;
  A value[kBatch][n] = {};
  if (keep) {
#pragma unroll
    for (int k = 0; k < kBatch; ++k) {
      const std::int64_t i = first + static_cast<std::int64_t>(k) * kThreads * n;
      if (i < args.length)
        load<D, n>(from + i, value[k]);
    }
  }
#pragma unroll
  for (int k = 0; k < kBatch; ++k) {
    const std::int64_t i = first + static_cast<std::int64_t>(k) * kThreads * n;
#pragma unroll
    for (int j = 0; j < n; ++j) value[k][j] *= factor;
    if (i < args.length)
      store<D, n>(to + i, value[k]);
  }
}

template <int n, class D>
void launch(Cuda backend, Drop<D> args, std::int64_t samples) {
  args.chunks = ceil_div(args.length, static_cast<std::int64_t>(kBatch) * kThreads * n);
  drop_path_kernel<n>
      <<<static_cast<unsigned int>(samples * args.chunks), kThreads, 0, native(backend)>>>(args);
  check_launch("drop_path");
}

}  // namespace

template <class T>
void drop_path(Cuda backend, const DropPathOptions& options, const ConstView& x, const View& y) {
  using D = OnDevice<T>;
  if (x.numel() == 0)
    return;
  const std::int64_t samples = x.shape[0];
  const Drop<D> args{.x = elements<T>(x),
                     .y = elements<T>(y),
                     .length = x.numel() / samples,
                     .chunks = 0,
                     .options = options};
  if (args.length % kPackSize<D> == 0 && packable(x.data, y.data)) {
    launch<kPackSize<D>>(backend, args, samples);
  } else {
    launch<1>(backend, args, samples);
  }
}

template void drop_path<float>(Cuda, const DropPathOptions&, const ConstView&, const View&);
template void drop_path<double>(Cuda, const DropPathOptions&, const ConstView&, const View&);
template void drop_path<BFloat16>(Cuda, const DropPathOptions&, const ConstView&, const View&);

}  // namespace hew::kernels
