#include "kernels/hopper/tensor_map.h"

#include <cudaTypedefs.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <array>

#include "core/cuda_check.h"
#include "core/error.h"

namespace hew::kernels::hopper {
namespace {

// The driver's encoder; asked of the runtime, so that hew does not link against the driver.
PFN_cuTensorMapEncodeTiled_v12000 encoder() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
  cuda::check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000,
                                               cudaEnableDefault, &found),
              "cudaGetDriverEntryPointByVersion");
  if (found != cudaDriverEntryPointSuccess)
    throw BackendError("tensor_map", static_cast<int>(found),
                       "this driver has no cuTensorMapEncodeTiled");
  return reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(function);
}

CUtensorMapSwizzle driver_swizzle(Swizzle swizzle) {
  switch (swizzle) {
    case Swizzle::k128:
      return CU_TENSOR_MAP_SWIZZLE_128B;
    case Swizzle::k64:
      return CU_TENSOR_MAP_SWIZZLE_64B;
    case Swizzle::kNone:
      return CU_TENSOR_MAP_SWIZZLE_NONE;
    default:
      return CU_TENSOR_MAP_SWIZZLE_32B;
  }
}

CUtensorMapDataType driver_type(const BoxArgs& args) {
  if (args.dtype == DType::kBFloat16)
    return CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
  return args.tf32 ? CU_TENSOR_MAP_DATA_TYPE_TFLOAT32 : CU_TENSOR_MAP_DATA_TYPE_FLOAT32;
}

CUtensorMapL2promotion promotion(int bytes) {
  switch (bytes) {
    case 64:
      return CU_TENSOR_MAP_L2_PROMOTION_L2_64B;
    case 128:
      return CU_TENSOR_MAP_L2_PROMOTION_L2_128B;
    default:
      return CU_TENSOR_MAP_L2_PROMOTION_L2_256B;
  }
}

}  // namespace

CUtensorMap tensor_map(const BoxArgs& args) {
  static const PFN_cuTensorMapEncodeTiled_v12000 kEncode = encoder();
  CUtensorMap map{};
  const std::array<cuuint64_t, 2> size{
      static_cast<cuuint64_t>(std::max<std::int64_t>(args.cols, 1)),
      static_cast<cuuint64_t>(std::max<std::int64_t>(args.rows, 1))};
  const std::array<cuuint64_t, 1> stride{static_cast<cuuint64_t>(args.stride)};
  const std::array<cuuint32_t, 2> box{static_cast<cuuint32_t>(args.box_cols),
                                      static_cast<cuuint32_t>(args.box_rows)};
  const std::array<cuuint32_t, 2> step{1, 1};
  const CUresult result =
      kEncode(&map, driver_type(args), 2, const_cast<void*>(args.data), size.data(), stride.data(),
              box.data(), step.data(), CU_TENSOR_MAP_INTERLEAVE_NONE, driver_swizzle(args.swizzle),
              promotion(args.fetched_bytes), CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) {
    throw BackendError(
        "tensor_map", static_cast<int>(result),
        fmt::format("refused a box of {} × {} in a matrix of {} × {}, rows of {} bytes",
                    args.box_rows, args.box_cols, args.rows, args.cols, args.stride));
  }
  return map;
}

int fetched_bytes(std::int64_t block_bytes) {
  return static_cast<int>(std::clamp<std::int64_t>(block_bytes, 64, 256));
}

int fetched_bytes(std::int64_t block_bytes, std::int64_t live, std::int64_t blocks) {
  return 4 * live >= 3 * blocks ? 256 : fetched_bytes(block_bytes);
}

bool movable(const ConstView& matrix) {
  const std::int64_t bytes = matrix.shape[matrix.shape.rank() - 1] * size_of(matrix.dtype);
  return reinterpret_cast<std::uintptr_t>(matrix.data) % 16 == 0 && bytes % 16 == 0;
}

}  // namespace hew::kernels::hopper
