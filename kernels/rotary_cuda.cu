#include <cmath>
#include <limits>

#include "kernels/launch.cuh"
#include "kernels/rotary.h"
#include "kernels/vectors.cuh"

namespace hew::kernels {
namespace {

constexpr int kThreads = 256;

template <class A>
struct TableArgs {
  A* table;  // [T, 2, D/2]: cosines, then sines
  std::int64_t time;
  std::int64_t half;
  std::int64_t offset;
  double theta;
  double direction;
};

// In double: a float angle of a thousand radians is off by 1e-4.
template <class A>
__global__ void table_kernel(TableArgs<A> args) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= args.time * args.half)
    return;
  const std::int64_t t = i / args.half;
  const std::int64_t j = i % args.half;
  const double frequency =
      pow(args.theta, -static_cast<double>(j) / static_cast<double>(args.half));
  double sine = 0;
  double cosine = 0;
  sincos(static_cast<double>(args.offset + t) * frequency, &sine, &cosine);
  A* row = args.table + t * 2 * args.half;
  row[j] = static_cast<A>(cosine);
  row[args.half + j] = static_cast<A>(args.direction * sine);
}

template <class D, class Index>
struct RotateArgs {
  const D* x;
  D* y;
  const ComputeType<D>* table;
  Index units;  // pairs of packs in all
  Index time;
  Index heads;
  Index half_packs;
};

// A thread turns n neighbours of the first half of a head with the n that belong to them.
template <int n, class D, class Index>
__global__ void __launch_bounds__(kThreads) rotate_kernel(RotateArgs<D, Index> args) {
  using A = ComputeType<D>;
  constexpr int kTablePack = n < kPackSize<A> ? n : kPackSize<A>;
  const Index unit = static_cast<Index>(blockIdx.x) * kThreads + static_cast<Index>(threadIdx.x);
  if (unit >= args.units)
    return;
  const Index row = unit / args.half_packs;
  const Index j = (unit - row * args.half_packs) * n;
  const Index t = row / args.heads % args.time;
  const std::int64_t half = static_cast<std::int64_t>(args.half_packs) * n;
  const std::int64_t at = static_cast<std::int64_t>(row) * 2 * half + j;
  const A* table = args.table + static_cast<std::int64_t>(t) * 2 * half + j;
  A first[n];
  A second[n];
  A cosine[n];
  A sine[n];
  load<D, n>(args.x + at, first);
  load<D, n>(args.x + at + half, second);
#pragma unroll
  for (int k = 0; k < n; k += kTablePack) {
    load<A, kTablePack>(table + k, *reinterpret_cast<A(*)[kTablePack]>(&cosine[k]));
    load<A, kTablePack>(table + half + k, *reinterpret_cast<A(*)[kTablePack]>(&sine[k]));
  }
  A low[n];
  A high[n];
#pragma unroll
  for (int k = 0; k < n; ++k) {
    low[k] = first[k] * cosine[k] - second[k] * sine[k];
    high[k] = second[k] * cosine[k] + first[k] * sine[k];
  }
  store<D, n>(args.y + at, low);
  store<D, n>(args.y + at + half, high);
}

template <int n, class Index, class T>
void rotate(Cuda backend, const Rotary& args, const ComputeType<OnDevice<T>>* table) {
  using D = OnDevice<T>;
  const Shape& shape = args.x.shape;
  const std::int64_t units = args.x.numel() / 2 / n;
  const auto blocks = static_cast<unsigned int>(ceil_div(units, kThreads));
  rotate_kernel<n, D, Index><<<blocks, kThreads, 0, native(backend)>>>(
      {.x = elements<T>(args.x),
       .y = elements<T>(args.y),
       .table = table,
       .units = static_cast<Index>(units),
       .time = static_cast<Index>(shape[1]),
       .heads = static_cast<Index>(shape[2]),
       .half_packs = static_cast<Index>(shape[3] / 2 / n)});
  check_launch("rotary");
}

// With 32-bit indices wherever they suffice: a 64-bit division costs as much as the rotation.
template <int n, class T>
void rotate(Cuda backend, const Rotary& args, const ComputeType<OnDevice<T>>* table) {
  if (args.x.numel() / 2 / n < std::numeric_limits<std::int32_t>::max())
    rotate<n, std::uint32_t, T>(backend, args, table);
  else
    rotate<n, std::int64_t, T>(backend, args, table);
}

}  // namespace

template <class T>
void rotary(Cuda backend, const Rotary& args) {
  using D = OnDevice<T>;
  using A = ComputeType<D>;
  if (args.x.numel() == 0)
    return;
  const std::int64_t time = args.x.shape[1];
  const std::int64_t half = args.x.shape[3] / 2;
  Tensor table = Tensor::empty({time, 2, half}, kDTypeOf<A>, backend.stream);
  table_kernel<A><<<static_cast<unsigned int>(ceil_div(time * half, kThreads)), kThreads, 0,
                    native(backend)>>>({.table = table.data<A>(),
                                        .time = time,
                                        .half = half,
                                        .offset = args.offset,
                                        .theta = args.theta,
                                        .direction = args.inverse ? -1.0 : 1.0});
  check_launch("rotary");
  constexpr int kPack = kPackSize<D>;
  if (half % kPack == 0 && packable(args.x.data, args.y.data))
    rotate<kPack, T>(backend, args, table.data<A>());
  else
    rotate<1, T>(backend, args, table.data<A>());
}

template void rotary<float>(Cuda, const Rotary&);
template void rotary<double>(Cuda, const Rotary&);
template void rotary<BFloat16>(Cuda, const Rotary&);

}  // namespace hew::kernels
