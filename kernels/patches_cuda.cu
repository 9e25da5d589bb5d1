#include <limits>

#include "kernels/launch.cuh"
#include "kernels/patches.h"
#include "kernels/vectors.cuh"

namespace hew::kernels {
namespace {

constexpr int kThreads = 256;

// Sizes in packs of n pixels, along rows of images and patches alike.
template <class Index>
struct Cut {
  Index packs;   // of all patches
  Index length;  // of one patch
  Index size;    // patch rows of a channel, p
  Index across;  // patches of a row of them
  Index down;    // and of a column
  Index row;     // packs of a patch row, p / n
};

// n float32 to n of D, as one access where n allows it.
template <class D, int n>
__device__ inline void move(const float* from, D* to) {
  constexpr int kPart = n < 4 ? n : 4;
  ComputeType<D> x[n];
#pragma unroll
  for (int at = 0; at < n; at += kPart) {
    const Pack<float, kPart> part = *reinterpret_cast<const Pack<float, kPart>*>(from + at);
#pragma unroll
    for (int k = 0; k < kPart; ++k) x[at + k] = static_cast<ComputeType<D>>(part.lane[k]);
  }
  store<D, n>(to, x);
}

// One pack of y a thread. What neighbours read lies next to one another along a patch's row.
template <int n, class D, class Index>
__global__ void __launch_bounds__(kThreads)
    patches_kernel(const float* images, D* y, std::int64_t channels, Cut<Index> cut) {
  const Index i = static_cast<Index>(blockIdx.x) * kThreads + static_cast<Index>(threadIdx.x);
  if (i >= cut.packs)
    return;
  const Index patch = i / cut.length;
  const Index within = i - patch * cut.length;  // (c·p + u)·(p/n) + v/n
  const Index line = within / cut.row;          // c·p + u
  const Index v = within - line * cut.row;
  const Index c = line / cut.size;
  const Index u = line - c * cut.size;
  const Index strip = patch / cut.across;  // b·h + i
  const Index j = patch - strip * cut.across;
  const Index b = strip / cut.down;
  const Index top = (strip - b * cut.down) * cut.size + u;
  // In packs; a row of the image has across·row of them.
  const std::int64_t from =
      ((static_cast<std::int64_t>(b) * channels + c) * cut.down * cut.size + top) * cut.across *
          cut.row +
      j * cut.row + v;
  move<D, n>(images + from * n, y + static_cast<std::int64_t>(i) * n);
}

template <int n, class T>
void launch(Cuda backend, const Patches& args) {
  const std::int64_t packs = args.y.numel() / n;
  const auto run = [&]<class Index>(Index /*type*/) {
    const Cut<Index> cut{.packs = static_cast<Index>(packs),
                         .length = static_cast<Index>(args.y.shape[1] / n),
                         .size = static_cast<Index>(args.size),
                         .across = static_cast<Index>(args.images.shape[3] / args.size),
                         .down = static_cast<Index>(args.images.shape[2] / args.size),
                         .row = static_cast<Index>(args.size / n)};
    patches_kernel<n>
        <<<static_cast<unsigned int>(ceil_div(packs, kThreads)), kThreads, 0, native(backend)>>>(
            elements<float>(args.images), elements<T>(args.y), args.images.shape[1], cut);
  };
  if (packs < std::numeric_limits<std::int32_t>::max()) {
    run(std::uint32_t{});
  } else {
    run(std::int64_t{});
  }
  check_launch("patches");
}

}  // namespace

template <class T>
void patches(Cuda backend, const Patches& args) {
  constexpr int kPack = kPackSize<OnDevice<T>>;
  if (args.y.numel() == 0)
    return;
  const bool aligned = packable(args.images.data, args.y.data);
  if (aligned && args.size % kPack == 0) {
    launch<kPack, T>(backend, args);
  } else if (aligned && args.size % 2 == 0) {
    launch<2, T>(backend, args);
  } else {
    launch<1, T>(backend, args);
  }
}

template void patches<float>(Cuda, const Patches&);
template void patches<double>(Cuda, const Patches&);
template void patches<BFloat16>(Cuda, const Patches&);

}  // namespace hew::kernels
