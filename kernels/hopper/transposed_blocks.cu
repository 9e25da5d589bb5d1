#include "kernels/hopper/bsr_product_launch.h"
#include "kernels/launch.cuh"

namespace hew::kernels::hopper {
namespace {

constexpr int kEdge = 32;  // of what a thread block transposes; four blocks of 16
constexpr int kThreads = 256;
constexpr int kPack = 4;  // floats of one access

// Part `blockIdx.x` of the blocks, of kTiles tiles [edge, edge], 1024 elements.
template <int edge>
__global__ __launch_bounds__(kThreads) void transpose_blocks_kernel(const float* from, float* to,
                                                                    std::int64_t tiles, int block) {
  constexpr int kTiles = kEdge * kEdge / (edge * edge);
  constexpr int kRowPacks = edge / kPack;
  __shared__ float tile[kTiles][edge][edge + 1];
  const int own = static_cast<int>(threadIdx.x) / (kThreads / kTiles);
  const int row = static_cast<int>(threadIdx.x) / kRowPacks % edge;
  const int col = static_cast<int>(threadIdx.x) % kRowPacks * kPack;
  const std::int64_t index = std::int64_t{blockIdx.x} * kTiles + own;
  const int across = block / edge;  // tiles
  const std::int64_t begin = index / (across * across) * block * block;
  const int r = static_cast<int>(index / across % across) * edge;
  const int c = static_cast<int>(index % across) * edge;
  if (index < tiles) {
    const auto v = *reinterpret_cast<const float4*>(from + begin + (r + row) * block + c + col);
    tile[own][row][col] = v.x;
    tile[own][row][col + 1] = v.y;
    tile[own][row][col + 2] = v.z;
    tile[own][row][col + 3] = v.w;
  }
  __syncthreads();
  if (index < tiles) {
    *reinterpret_cast<float4*>(to + begin + (c + row) * block + r + col) =
        make_float4(tile[own][col][row], tile[own][col + 1][row], tile[own][col + 2][row],
                    tile[own][col + 3][row]);
  }
}

template <int edge>
void transpose(Cuda backend, const ConstView& from, Tensor& to) {
  const std::int64_t tiles = from.numel() / (edge * edge);
  const auto grid = static_cast<unsigned int>(ceil_div(from.numel(), kEdge * kEdge));
  transpose_blocks_kernel<edge><<<grid, kThreads, 0, native(backend)>>>(
      from.as<float>(), to.data<float>(), tiles, static_cast<int>(from.shape[1]));
  check_launch("transpose_blocks");
}

}  // namespace

Tensor transposed_blocks(Cuda backend, const ConstView& values) {
  Tensor out = Tensor::empty(values.shape, DType::kFloat32, backend.stream);
  if (values.shape[1] % kEdge == 0)
    transpose<kEdge>(backend, values, out);
  else
    transpose<kEdge / 2>(backend, values, out);
  return out;
}

}  // namespace hew::kernels::hopper
