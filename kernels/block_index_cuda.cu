#include <cub/block/block_scan.cuh>

#include "kernels/block_index.h"
#include "kernels/bsr_index.cuh"
#include "kernels/launch.cuh"

namespace hew::kernels {
namespace {

constexpr int kWarp = 32;
constexpr int kLines = 8;  // block rows or columns of a block of threads, one a warp
constexpr int kScanThreads = 1024;
constexpr unsigned int kAllLanes = 0xffffffffU;

struct Mask {
  const std::uint8_t* live;  // [rows, cols]
  std::int64_t rows;
  std::int64_t cols;
};

// One block row, or one block column, as a warp walks along it.
struct Line {
  const std::uint8_t* first;
  std::int64_t length;
  std::int64_t stride;

  __device__ static Line row(const Mask& mask, std::int64_t r) {
    return {mask.live + r * mask.cols, mask.cols, 1};
  }
  __device__ static Line column(const Mask& mask, std::int64_t c) {
    return {mask.live + c, mask.rows, mask.cols};
  }
  // Whether block i is live; past the end none is.
  __device__ bool live(std::int64_t i) const { return i < length && first[i * stride] != 0; }
};

__device__ inline std::int64_t line_of_warp() {
  return static_cast<std::int64_t>(blockIdx.x) * kLines + threadIdx.x / kWarp;
}

// crow[r + 1] and ccol[c + 1] ← live blocks of that row and column; lines are rows, then columns.
__global__ void __launch_bounds__(kLines* kWarp)
    count_kernel(const Mask mask, std::int32_t* crow, std::int32_t* ccol) {
  if (blockIdx.x == 0 && threadIdx.x == 0) {
    crow[0] = 0;
    ccol[0] = 0;
  }
  const std::int64_t number = line_of_warp();
  if (number >= mask.rows + mask.cols)
    return;  // the whole warp
  const bool is_row = number < mask.rows;
  const std::int64_t at = is_row ? number : number - mask.rows;
  const Line line = is_row ? Line::row(mask, at) : Line::column(mask, at);
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  std::int32_t count = 0;
  for (std::int64_t base = 0; base < line.length; base += kWarp) {
    count += __popc(__ballot_sync(kAllLanes, line.live(base + lane)));
  }
  if (lane == 0)
    (is_row ? crow : ccol)[at + 1] = count;
}

// Counts become ends, in place: block 0 crow's, block 1 ccol's.
__global__ void __launch_bounds__(kScanThreads)
    scan_kernel(const Mask mask, std::int32_t* crow, std::int32_t* ccol) {
  using Scan = cub::BlockScan<std::int32_t, kScanThreads>;
  __shared__ typename Scan::TempStorage room;
  std::int32_t* const ends = (blockIdx.x == 0 ? crow : ccol) + 1;
  const std::int64_t length = blockIdx.x == 0 ? mask.rows : mask.cols;
  std::int32_t before = 0;
  for (std::int64_t base = 0; base < length; base += kScanThreads) {
    const std::int64_t i = base + threadIdx.x;
    std::int32_t sum = 0;
    std::int32_t total = 0;
    Scan(room).InclusiveSum(i < length ? ends[i] : 0, sum, total);
    if (i < length)
      ends[i] = before + sum;
    before += total;
    __syncthreads();  // the room is used again
  }
}

// Calls put(rank within the line, block) for the line's live blocks, in their order.
template <class Put>
__device__ inline void for_live(const Line& line, const Put& put) {
  const unsigned int lane = threadIdx.x % kWarp;
  const unsigned int lower = (1U << lane) - 1;
  std::int32_t before = 0;
  for (std::int64_t base = 0; base < line.length; base += kWarp) {
    const bool live = line.live(base + lane);
    const unsigned int found = __ballot_sync(kAllLanes, live);
    if (live)
      put(before + __popc(found & lower), base + lane);
    before += __popc(found);
  }
}

__global__ void __launch_bounds__(kLines* kWarp)
    rows_kernel(const Mask mask, const std::int32_t* crow, std::int32_t* col, std::int64_t nnzb) {
  const std::int64_t r = line_of_warp();
  if (r >= mask.rows)
    return;
  const std::int32_t begin = crow[r];
  for_live(Line::row(mask, r), [&](std::int32_t rank, std::int64_t c) {
    if (begin + rank < nnzb)
      col[begin + rank] = static_cast<std::int32_t>(c);
  });
}

struct Transposed {
  const std::int32_t* ccol;
  std::int32_t* row;
  std::int32_t* position;
};

__global__ void __launch_bounds__(kLines* kWarp)
    columns_kernel(const Mask mask, const std::int32_t* crow, const std::int32_t* col,
                   const Transposed out, std::int64_t nnzb) {
  const std::int64_t c = line_of_warp();
  if (c >= mask.cols)
    return;
  const std::int32_t begin = out.ccol[c];
  for_live(Line::column(mask, c), [&](std::int32_t rank, std::int64_t r) {
    if (begin + rank >= nnzb)
      return;
    out.row[begin + rank] = static_cast<std::int32_t>(r);
    out.position[begin + rank] = static_cast<std::int32_t>(live_block_at(crow, col, r, c));
  });
}

unsigned int grid_over(std::int64_t lines) {
  return static_cast<unsigned int>(std::max<std::int64_t>(1, ceil_div(lines, kLines)));
}

}  // namespace

void index_blocks(Cuda backend, const BlockIndexArgs& args) {
  const Mask mask{
      .live = args.mask.as<std::uint8_t>(), .rows = args.mask.shape[0], .cols = args.mask.shape[1]};
  auto* const crow = args.crow.as<std::int32_t>();
  auto* const ccol = args.ccol.as<std::int32_t>();
  auto* const col = args.col.as<std::int32_t>();
  const std::int64_t nnzb = args.col.numel();
  constexpr int kThreads = kLines * kWarp;
  const cudaStream_t stream = native(backend);
  count_kernel<<<grid_over(mask.rows + mask.cols), kThreads, 0, stream>>>(mask, crow, ccol);
  check_launch("index_blocks");
  scan_kernel<<<2, kScanThreads, 0, stream>>>(mask, crow, ccol);
  check_launch("index_blocks");
  rows_kernel<<<grid_over(mask.rows), kThreads, 0, stream>>>(mask, crow, col, nnzb);
  check_launch("index_blocks");
  columns_kernel<<<grid_over(mask.cols), kThreads, 0, stream>>>(
      mask, crow, col,
      {.ccol = ccol,
       .row = args.row.as<std::int32_t>(),
       .position = args.position.as<std::int32_t>()},
      nnzb);
  check_launch("index_blocks");
}

}  // namespace hew::kernels
