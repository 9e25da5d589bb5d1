#include "kernels/hopper/packing.h"

#include "kernels/launch.cuh"
#include "kernels/mma_tf32.cuh"

namespace hew::kernels::hopper {
namespace {

constexpr int kThreads = 256;
constexpr int kWarp = 32;
// A warp takes 4 rows of 128 bytes: whole lines of memory, which it reads from 4 rows of a matrix
// and writes to 2 or 4 tiles.
constexpr int kWarpPieces = 8;  // of 16 bytes
constexpr int kWarpRows = kWarp / kWarpPieces;
// A thread block takes 64 rows of 512 bytes, four warps side by side.
constexpr int kWarpsAcross = 4;
constexpr int kPieces = kWarpsAcross * kWarpPieces;
constexpr int kRowsAtOnce = kThreads / kWarp / kWarpsAcross * kWarpRows;
constexpr int kSteps = 8;
constexpr int kRows = kSteps * kRowsAtOnce;

// [rows, pieces of 16 bytes], cut into columns of tiles.
struct Matrix {
  std::int64_t rows;
  std::int64_t pieces;
  std::int64_t columns;
  int tile;    // rows of a tile
  int strips;  // of kPieces, in a row
};

// Ties to even, as TMA rounds.
__device__ std::uint32_t nearest_tf32(std::uint32_t bits) {
  return __float_as_uint(round_to_tf32(__uint_as_float(bits)));
}

template <bool rounds>
__device__ uint4 piece_of(uint4 piece) {
  if constexpr (!rounds)
    return piece;
  return make_uint4(nearest_tf32(piece.x), nearest_tf32(piece.y), nearest_tf32(piece.z),
                    nearest_tf32(piece.w));
}

// Where piece `at` of a run lies in it: the place in 128 bytes is exchanged by that of these 128
// among their neighbours.
template <int row_pieces, class Int>
__device__ Int swizzled(Int at) {
  return at ^ (at / kWarpPieces) % row_pieces;
}

template <int row_pieces, bool rounds>
__global__ __launch_bounds__(kThreads) void pack_tokens_kernel(const uint4* in, uint4* out,
                                                               Matrix matrix) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const std::int64_t first_row = std::int64_t{blockIdx.x / matrix.strips} * kRows;
  const std::int64_t piece = static_cast<std::int64_t>(blockIdx.x % matrix.strips) * kPieces +
                             warp % kWarpsAcross * kWarpPieces + lane % kWarpPieces;
  const std::int64_t column = piece / row_pieces;
  if (column >= matrix.columns)
    return;
  const int row = warp / kWarpsAcross * kWarpRows + lane / kWarpPieces;
  uint4 held[kSteps];
#pragma unroll
  for (int i = 0; i < kSteps; ++i) {
    const std::int64_t from = first_row + row + i * kRowsAtOnce;
    held[i] = from < matrix.rows && piece < matrix.pieces
                  ? __ldcs(in + from * matrix.pieces + piece)
                  : make_uint4(0, 0, 0, 0);
  }
  const std::int64_t tile = first_row / matrix.tile;
  const int row_of_tile = static_cast<int>(first_row % matrix.tile) + row;
  uint4* const to = out + (tile * matrix.columns + column) * matrix.tile * row_pieces;
#pragma unroll
  for (int i = 0; i < kSteps; ++i) {
    const int at =
        (row_of_tile + i * kRowsAtOnce) * row_pieces + static_cast<int>(piece % row_pieces);
    to[swizzled<row_pieces>(at)] = piece_of<rounds>(held[i]);
  }
}

// A run holds whole blocks, so that the place in all of them decides.
template <int row_pieces, bool rounds>
__global__ __launch_bounds__(kThreads) void pack_blocks_kernel(const uint4* in, uint4* out,
                                                               std::int64_t pieces) {
  constexpr int kHeld = 4;
  const std::int64_t first = std::int64_t{blockIdx.x} * kHeld * kThreads + threadIdx.x;
  uint4 held[kHeld];
#pragma unroll
  for (int i = 0; i < kHeld; ++i) {
    if (first + i * kThreads < pieces)
      held[i] = __ldg(in + first + i * kThreads);
  }
#pragma unroll
  for (int i = 0; i < kHeld; ++i) {
    const std::int64_t at = first + i * kThreads;
    if (at < pieces)
      out[swizzled<row_pieces>(at)] = piece_of<rounds>(held[i]);
  }
}

template <int row_pieces, bool rounds>
void pack_tokens_as(Cuda backend, const ConstView& in, const View& out) {
  const std::int64_t columns = out.shape[1];
  const std::int64_t strips = ceil_div(columns * row_pieces, kPieces);
  const std::int64_t grid = strips * (out.shape[0] * out.shape[2] / kRows);
  if (grid == 0)
    return;
  pack_tokens_kernel<row_pieces, rounds>
      <<<static_cast<unsigned int>(grid), kThreads, 0, native(backend)>>>(
          static_cast<const uint4*>(in.data), static_cast<uint4*>(out.data),
          {.rows = in.shape[0],
           .pieces = in.shape[1] * size_of(in.dtype) / 16,
           .columns = columns,
           .tile = static_cast<int>(out.shape[2]),
           .strips = static_cast<int>(strips)});
  check_launch("pack_tokens");
}

template <int row_pieces, bool rounds>
void pack_blocks_as(Cuda backend, const ConstView& blocks, const View& out) {
  constexpr std::int64_t kOfBlock = std::int64_t{4} * kThreads;
  const std::int64_t pieces = blocks.numel() * size_of(blocks.dtype) / 16;
  if (pieces == 0)
    return;
  pack_blocks_kernel<row_pieces, rounds>
      <<<static_cast<unsigned int>(ceil_div(pieces, kOfBlock)), kThreads, 0, native(backend)>>>(
          static_cast<const uint4*>(blocks.data), static_cast<uint4*>(out.data), pieces);
  check_launch("pack_blocks");
}

}  // namespace

void pack_tokens(Cuda backend, const ConstView& in, View out) {
  if (in.dtype == DType::kFloat32)
    return pack_tokens_as<4, /*rounds=*/true>(backend, in, out);
  if (out.shape[3] == 32)
    return pack_tokens_as<4, /*rounds=*/false>(backend, in, out);
  pack_tokens_as<2, /*rounds=*/false>(backend, in, out);
}

void pack_blocks(Cuda backend, const ConstView& blocks, View out) {
  if (blocks.dtype == DType::kFloat32)
    return pack_blocks_as<4, /*rounds=*/true>(backend, blocks, out);
  if (blocks.shape[2] == 32)
    return pack_blocks_as<4, /*rounds=*/false>(backend, blocks, out);
  pack_blocks_as<2, /*rounds=*/false>(backend, blocks, out);
}

}  // namespace hew::kernels::hopper
