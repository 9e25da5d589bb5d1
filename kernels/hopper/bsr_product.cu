#include "kernels/hopper/bsr_product.h"

#include <limits>

#include "kernels/bsr_routes.h"
#include "kernels/hopper/bsr_product_launch.h"
#include "kernels/hopper/tensor_map.h"
#include "kernels/launch.cuh"
#include "kernels/product_settings.h"

namespace hew::kernels::hopper {
namespace {

bool takes_type(Cuda backend, DType dtype) {
  return dtype == DType::kBFloat16 ||
         (dtype == DType::kFloat32 &&
          backend.stream.state->get<ProductSettings>(backend.stream).tf32);
}

// sm_90a's code runs on 9.0 alone.
bool takes(Cuda backend, const BsrIndex& index, const ConstView& in, const ConstView& values,
           const ConstView& out) {
  constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max() / 2;
  return limits(backend).capability == 90 && index.schedule != nullptr &&
         index.schedule->by_rows.together.groups > 0 && index.nnzb > 0 && in.shape[0] > 0 &&
         takes_type(backend, in.dtype) && movable(in) && movable(values) && movable(out) &&
         (index.nnzb + 1) * index.block < kMost && in.shape[0] < kMost &&
         ceil_div(in.shape[0], 128) * std::max(index.block_rows(), index.block_cols()) < kMost;
}

void multiply(Cuda backend, BsrProductCall call, bool gradient) {
  const auto& settings = backend.stream.state->get<BsrSettings>(backend.stream);
  call.packing = settings.packing;
  call.tall = settings.tall;
  if (call.in.dtype == DType::kBFloat16)
    return launch_bf16(backend, call, gradient);
  if (!gradient)
    return launch_tf32(backend, call, gradient);
  const Tensor transposed = transposed_blocks(backend, call.values);
  call.values = transposed;
  launch_tf32(backend, call, gradient);
}

bool movable_or_null(const ConstView& view) {
  return !view || movable(view);
}

}  // namespace

bool takes(Cuda backend, const BsrForwardArgs& args) {
  return takes(backend, args.index, args.x, args.values, args.y) && movable_or_null(args.pre) &&
         movable_or_null(args.gate) && movable_or_null(args.residual);
}

bool takes(Cuda backend, const BsrInputGradientArgs& args) {
  return takes(backend, args.index, args.dy, args.values, args.dx) &&
         (args.activation == Activation::kNone || movable(args.pre)) &&
         movable_or_null(args.gate) && movable_or_null(args.up) && movable_or_null(args.dgate);
}

void bsr_forward(Cuda backend, const BsrForwardArgs& args) {
  const bool kept = args.activation != Activation::kNone || args.gate;
  multiply(backend,
           {.in = args.x,
            .values = args.values,
            .walk = &args.index.schedule->by_rows,
            .ending = args.gate       ? BsrEnding::kGate
                      : args.residual ? BsrEnding::kResidual
                                      : BsrEnding::kPlain,
            .activation = args.activation,
            .out = args.y,
            .second_out = kept ? args.pre : View{},
            .given = args.gate ? args.gate : args.residual,
            .bias = args.bias},
           /*gradient=*/false);
}

void bsr_input_gradient(Cuda backend, const BsrInputGradientArgs& args) {
  const bool activated = args.activation != Activation::kNone;
  multiply(backend,
           {.in = args.dy,
            .values = args.values,
            .walk = &args.index.schedule->by_columns,
            .ending = args.gate   ? BsrEnding::kGated
                      : activated ? BsrEnding::kSlope
                                  : BsrEnding::kPlain,
            .activation = args.activation,
            .out = args.dx,
            .second_out = args.gate ? args.dgate : View{},
            .given = args.gate   ? args.gate
                     : activated ? args.pre
                                 : ConstView{},
            .second_given = args.gate ? args.up : ConstView{},
            .sums = args.dbias},
           /*gradient=*/true);
}

}  // namespace hew::kernels::hopper
