#pragma once

#include <cuda.h>

#include <cstdint>

#include "core/tensor.h"
#include "kernels/hopper/swizzle.h"

namespace hew::kernels::hopper {

/// A matrix in device memory and the box that TMA moves, for a kernel's __grid_constant__
/// parameter.
struct BoxArgs {
  const void* data = nullptr;  // 16-byte aligned
  DType dtype = DType::kBFloat16;
  bool tf32 = false;  // float32 elements are rounded to nearest tf32 where they are loaded
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t stride = 0;  // bytes from row to row, a multiple of 16
  int box_rows = 0;         // up to 256
  int box_cols = 0;         // up to 256; bytes of a row fit into the swizzle
  Swizzle swizzle = Swizzle::k128;
  int fetched_bytes = 256;  // 64, 128 or 256 that L2 reads from device memory for a byte of them
};

/// Throws BackendError if the driver refuses. A matrix without elements becomes one zero row that
/// is never read.
CUtensorMap tensor_map(const BoxArgs& args);

/// BoxArgs::fetched_bytes for boxes that are `block_bytes` wide, beside which nothing is to be
/// read, beyond the 64 bytes that are the least.
int fetched_bytes(std::int64_t block_bytes);
/// The same in a matrix of `blocks` columns of them, all but a few of which are wanted where three
/// in four are live.
int fetched_bytes(std::int64_t block_bytes, std::int64_t live, std::int64_t blocks);

/// Whether TMA can move a bf16 or float32 matrix: aligned base, rows a multiple of 16 bytes.
bool movable(const ConstView& matrix);

}  // namespace hew::kernels::hopper
