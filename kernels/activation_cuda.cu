#include "kernels/activation.h"
#include "kernels/activation_math.cuh"
#include "kernels/map.cuh"
#include "kernels/partials.cuh"

namespace hew::kernels {
namespace {

template <Activation kind, class D>
struct Forward {
  using A = ComputeType<D>;
  __device__ void operator()(const A (&x)[1], A (&y)[1]) const { y[0] = activated<kind, D>(x[0]); }
};

template <Activation kind, class D>
struct Backward {
  using A = ComputeType<D>;
  __device__ void operator()(const A (&in)[2], A (&dx)[1]) const {
    dx[0] = activation_gradient<kind, D>(in[0], in[1]);
  }
};

// A block is 32 packs of columns wide and reads kRowsAtOnce rows at a time.
constexpr int kRowsAtOnce = 8;

template <class D>
struct BiasArgs {
  const D* x;
  const D* dy;
  D* dx;
  D* y;                     // act(x); null if not wanted
  ComputeType<D>* partial;  // [chunks, width]
  std::int64_t rows;
  std::int64_t width;       // a multiple of n
  std::int64_t chunk_rows;  // rows of one block
};

// dx, and partial[chunk, column] ← Σ of the chunk's rows of dx. x = column pack, y = chunk.
template <Activation kind, int n, class D>
__global__ void __launch_bounds__(kWarp* kRowsAtOnce) backward_with_bias_kernel(BiasArgs<D> args) {
  using A = ComputeType<D>;
  constexpr int kBatch = 4;
  __shared__ A sums[kRowsAtOnce][n][kWarp];
  const std::int64_t column = (static_cast<std::int64_t>(blockIdx.x) * kWarp + threadIdx.x) * n;
  const std::int64_t begin = blockIdx.y * args.chunk_rows;
  const std::int64_t end =
      begin + args.chunk_rows < args.rows ? begin + args.chunk_rows : args.rows;
  A sum[n] = {};
  if (column < args.width) {
    for (std::int64_t row = begin + threadIdx.y; row < end; row += kBatch * kRowsAtOnce) {
      Pack<D, n> x[kBatch];
      Pack<D, n> dy[kBatch];
#pragma unroll
      for (int b = 0; b < kBatch; ++b) {
        const std::int64_t at = (row + b * kRowsAtOnce) * args.width + column;
        if (row + b * kRowsAtOnce < end) {
          x[b] = *reinterpret_cast<const Pack<D, n>*>(args.x + at);
          dy[b] = *reinterpret_cast<const Pack<D, n>*>(args.dy + at);
        }
      }
#pragma unroll
      for (int b = 0; b < kBatch; ++b) {
        const std::int64_t at = (row + b * kRowsAtOnce) * args.width + column;
        if (row + b * kRowsAtOnce < end) {
          A dx[n];
#pragma unroll
          for (int j = 0; j < n; ++j) {
            dx[j] = activation_gradient<kind, D>(widen(x[b].lane[j]), widen(dy[b].lane[j]));
            sum[j] += dx[j];
          }
          store<D, n>(args.dx + at, dx);
          if (args.y != nullptr) {
            A y[n];
#pragma unroll
            for (int j = 0; j < n; ++j) y[j] = activated<kind, D>(widen(x[b].lane[j]));
            store<D, n>(args.y + at, y);
          }
        }
      }
    }
  }
#pragma unroll
  for (int j = 0; j < n; ++j) sums[threadIdx.y][j][threadIdx.x] = sum[j];
  __syncthreads();
  // Row y of the threads adds up lanes y, y + 8, … of the packs.
  for (int j = static_cast<int>(threadIdx.y); j < n; j += kRowsAtOnce) {
    A total = 0;
#pragma unroll
    for (int y = 0; y < kRowsAtOnce; ++y) total += sums[y][j][threadIdx.x];
    if (column < args.width)
      args.partial[blockIdx.y * args.width + column + j] = total;
  }
}

template <Activation kind, class T>
void backward_with_bias(Cuda backend, const ActivationBackward& args) {
  using D = OnDevice<T>;
  using A = ComputeType<D>;
  constexpr int kPack = kPackSize<D>;
  // Rows are cut by their number alone, so that the result is always the same.
  constexpr std::int64_t kMinRows = 64;
  constexpr std::int64_t kMaxChunks = 512;
  const std::int64_t rows = args.x.shape[0];
  const std::int64_t width = args.x.shape[1];
  if (width == 0)
    return;
  const std::int64_t chunk_rows = std::max(kMinRows, ceil_div(rows, kMaxChunks));
  const std::int64_t chunks = std::max<std::int64_t>(1, ceil_div(rows, chunk_rows));
  Tensor partial = Tensor::empty({chunks, width}, kDTypeOf<A>, backend.stream);
  const BiasArgs<D> kernel_args{.x = elements<T>(args.x),
                                .dy = elements<T>(args.dy),
                                .dx = elements<T>(args.dx),
                                .y = elements<T>(args.y),
                                .partial = partial.data<A>(),
                                .rows = rows,
                                .width = width,
                                .chunk_rows = chunk_rows};
  const bool packs =
      width % kPack == 0 && packable(kernel_args.x, kernel_args.dy, kernel_args.dx, kernel_args.y);
  const std::int64_t columns = packs ? width / kPack : width;
  const dim3 grid(static_cast<unsigned int>(ceil_div(columns, kWarp)),
                  static_cast<unsigned int>(chunks));
  const dim3 block(kWarp, kRowsAtOnce);
  if (packs)
    backward_with_bias_kernel<kind, kPack><<<grid, block, 0, native(backend)>>>(kernel_args);
  else
    backward_with_bias_kernel<kind, 1><<<grid, block, 0, native(backend)>>>(kernel_args);
  check_launch("activation_backward");
  sum_partials<A>(backend, "activation_backward", kernel_args.partial, args.dbias.as<A>(), chunks,
                  width, width);
}

}  // namespace

template <class T>
void activation_forward(Cuda backend, Activation activation, const ConstView& x, const View& y) {
  using D = OnDevice<T>;
  for_activation(activation, [&](auto kind) {
    map<D>(backend, "activation_forward", {elements<T>(x)}, {elements<T>(y)}, x.numel(),
           Elementwise<Forward<kind.value, D>>{});
  });
}

template <class T>
void activation_backward(Cuda backend, const ActivationBackward& args) {
  using D = OnDevice<T>;
  for_activation(args.activation, [&](auto kind) {
    if (args.dbias)
      return backward_with_bias<kind.value, T>(backend, args);
    map<D>(backend, "activation_backward", {elements<T>(args.x), elements<T>(args.dy)},
           {elements<T>(args.dx)}, args.x.numel(), Elementwise<Backward<kind.value, D>>{});
    if (args.y)
      activation_forward<T>(backend, args.activation, args.x, args.y);
  });
}

#define HEW_INSTANTIATE(T)                                                              \
  template void activation_forward<T>(Cuda, Activation, const ConstView&, const View&); \
  template void activation_backward<T>(Cuda, const ActivationBackward&);
HEW_INSTANTIATE(float)
HEW_INSTANTIATE(double)
HEW_INSTANTIATE(BFloat16)
#undef HEW_INSTANTIATE

}  // namespace hew::kernels
