#include "sparsity/soft_mask.h"

#include "kernels/blocks.h"
#include "kernels/elementwise.h"
#include "kernels/soft_top.h"

namespace hew::sparsity {
namespace {

Shape shape_of(const BlockGrid& grid) {
  return {grid.block_rows(), grid.block_cols()};
}

}  // namespace

std::vector<SoftMask> soft_masks(std::span<const SoftMaskRequest> requests) {
  std::vector<SoftMask> out;
  std::vector<kernels::SoftTop> tops;
  for (const SoftMaskRequest& request : requests) {
    const Stream& stream = request.weight.stream();
    const Shape shape = shape_of(request.grid);
    SoftMask soft{.norms = Tensor::empty(shape, DType::kFloat64, stream),
                  .mask = Tensor::empty(shape, DType::kFloat64, stream),
                  .slope = Tensor::empty({1}, DType::kFloat64, stream)};
    kernels::block_norms(request.weight, request.grid.block, soft.norms, stream);
    const Shape flat{request.grid.blocks()};
    Tensor mask = soft.mask.reshape(flat);
    tops.push_back({.values = soft.norms.reshape(flat),
                    .keep = request.keep,
                    .sharpness = request.sharpness,
                    .mask = mask,
                    .slope = soft.slope});
    out.push_back(std::move(soft));
  }
  if (!requests.empty())
    kernels::soft_top(tops, requests.front().weight.stream());
  return out;
}

Tensor softened(const Tensor& weight, const SoftMask& soft, std::int64_t block) {
  Tensor out = Tensor::empty(weight.shape(), weight.dtype(), weight.stream());
  kernels::blend_blocks({.x = weight, .a = soft.mask, .y = {}, .b = {}, .block = block, .out = out},
                        weight.stream());
  return out;
}

Tensor soft_gradient(const Tensor& g, const Tensor& weight, const SoftMask& soft,
                     const BlockGrid& grid) {
  const Stream& stream = g.stream();
  Tensor dots = Tensor::empty(shape_of(grid), g.dtype(), stream);
  kernels::block_dot(g, weight, grid.block, dots, stream);
  Tensor dmask = Tensor::empty(dots.shape(), DType::kFloat64, stream);
  kernels::cast(dots, dmask, stream);
  Tensor factor = Tensor::empty(dots.shape(), DType::kFloat64, stream);
  kernels::soft_top_gradient({.values = soft.norms,
                              .mask = soft.mask,
                              .slope = soft.slope,
                              .dmask = dmask,
                              .rows = grid.rows,
                              .cols = grid.cols,
                              .block = grid.block,
                              .factor = factor},
                             stream);
  Tensor out = Tensor::empty(g.shape(), g.dtype(), stream);
  kernels::blend_blocks(
      {.x = g, .a = soft.mask, .y = weight, .b = factor, .block = grid.block, .out = out}, stream);
  return out;
}

}  // namespace hew::sparsity
