#include "kernels/hopper/bsr_weight_gradient.h"

#include "kernels/bsr_schedule.h"
#include "kernels/hopper/bsr_weight_gradient.cuh"
#include "kernels/hopper/gradient_split.h"
#include "kernels/hopper/tensor_map.h"
#include "kernels/hopper/tile_counter.h"
#include "kernels/launch.cuh"

namespace hew::kernels::hopper {
namespace {

// Boxes of one panel over the tokens of a step.
template <class Config>
CUtensorMap panels_of(const ConstView& matrix) {
  return tensor_map({.data = matrix.data,
                     .dtype = DType::kBFloat16,
                     .rows = matrix.shape[0],
                     .cols = matrix.shape[1],
                     .stride = matrix.shape[1] * 2,
                     .box_rows = kStepTokens,
                     .box_cols = Config::kPanel,
                     .swizzle = Config::kSwizzle});
}

template <class Config>
void launch(Cuda backend, const BsrWeightGradientArgs& args) {
  const GradientSchedule& schedule = args.index.schedule->gradient;
  const std::int64_t steps = ceil_div(args.dy.shape[0], kStepTokens);
  const std::int64_t processors = limits(backend).multiprocessors;
  const GradientSplit split = split_gradient({.items = schedule.count,
                                              .panels = schedule.panels,
                                              .most = schedule.most,
                                              .block = args.index.block,
                                              .nnzb = args.index.nnzb,
                                              .steps = steps,
                                              .multiprocessors = processors});
  const std::int64_t cut = schedule.count - split.whole;
  const std::int64_t tiles = split.whole + cut * split.splits;
  Tensor partial = Tensor::empty({cut * split.splits, 2, kGroups, kGroupElements}, DType::kFloat32,
                                 backend.stream);
  const GradientParams params{
      .items = reinterpret_cast<const GradientItem*>(schedule.items.template data<std::int32_t>()),
      .whole = static_cast<int>(split.whole),
      .cut = static_cast<int>(cut),
      .splits = static_cast<int>(split.splits),
      .steps = static_cast<int>(steps),
      .rows = static_cast<int>(args.index.rows),
      .cols = static_cast<int>(args.index.cols),
      .add = args.accumulate,
      .dvalues = args.dvalues.as<float>(),
      .partial = partial.data<float>(),
      .draw = {backend.stream.state->get<TileCounter>(backend.stream).data()}};
  const auto kernel = weight_gradient_kernel<Config>;
  cuda::check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                   Config::kSharedBytes),
              "cudaFuncSetAttribute");
  const auto grid = static_cast<unsigned int>(std::min(processors, tiles));
  kernel<<<grid, kGradientThreads, Config::kSharedBytes, native(backend)>>>(
      panels_of<Config>(args.dy), panels_of<Config>(args.x), params);
  check_launch("bsr_weight_gradient");
  if (cut == 0)
    return;
  const auto groups = static_cast<unsigned int>(cut * 2 * kGroups);
  add_partials_kernel<Config><<<groups, kWarpgroupThreads, 0, native(backend)>>>(params);
  check_launch("bsr_weight_gradient");
}

}  // namespace

bool takes_weight_gradient(Cuda backend, const BsrWeightGradientArgs& args) {
  constexpr int kHopper = 90;
  constexpr int kPairBytes = 8;  // sums are written in pairs
  return limits(backend).capability == kHopper && args.dy.dtype == DType::kBFloat16 &&
         args.index.schedule != nullptr && args.index.schedule->gradient.count > 0 &&
         movable(args.dy) && movable(args.x) &&
         reinterpret_cast<std::uintptr_t>(args.dvalues.data) % kPairBytes == 0;
}

void bsr_weight_gradient(Cuda backend, const BsrWeightGradientArgs& args) {
  if (args.dy.shape[0] == 0) {
    if (!args.accumulate) {
      const auto bytes = static_cast<std::size_t>(args.dvalues.numel()) * sizeof(float);
      cuda::check(cudaMemsetAsync(args.dvalues.data, 0, bytes, native(backend)), "cudaMemsetAsync");
    }
    return;
  }
  if (args.index.block == 32)
    return launch<GradientConfig<32>>(backend, args);
  if (args.index.block == 64)
    return launch<GradientConfig<64>>(backend, args);
  launch<GradientConfig<128>>(backend, args);
}

}  // namespace hew::kernels::hopper
