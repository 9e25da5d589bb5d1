#include <type_traits>

#include "kernels/norm.h"
#include "kernels/norm_backward.cuh"
#include "kernels/norm_forward.cuh"

namespace hew::kernels {

template <class T>
void layer_norm_forward(Cuda backend, const LayerNormForward& args) {
  using D = OnDevice<T>;
  using A = ComputeType<D>;
  norm_forward<true>(backend, "layer_norm",
                     NormForward<D>{.x = elements<T>(args.x),
                                    .residual = elements<T>(args.residual),
                                    .weight = elements<T>(args.weight),
                                    .bias = elements<T>(args.bias),
                                    .sum = elements<T>(args.sum),
                                    .y = elements<T>(args.y),
                                    .mean = args.mean.as<A>(),
                                    .rstd = args.rstd.as<A>(),
                                    .rows = args.mean.numel(),
                                    .width = args.weight.numel(),
                                    .eps = static_cast<A>(args.eps)});
}

template <class T>
void layer_norm_backward(Cuda backend, const LayerNormBackward& args) {
  using D = OnDevice<T>;
  using A = ComputeType<D>;
  norm_backward<true>(backend, "layer_norm_backward",
                      NormBackward<D>{.x = elements<T>(args.x),
                                      .weight = elements<T>(args.weight),
                                      .mean = args.mean.as<A>(),
                                      .rstd = args.rstd.as<A>(),
                                      .dy = elements<T>(args.dy),
                                      .dsum = elements<T>(args.dsum),
                                      .dx = elements<T>(args.dx),
                                      .dweight = args.dweight.as<A>(),
                                      .dbias = args.dbias.as<A>(),
                                      .rows = args.mean.numel(),
                                      .width = args.weight.numel()});
}

template <class T>
void rms_norm_forward(Cuda backend, const RmsNormForward& args) {
  using D = OnDevice<T>;
  using A = ComputeType<D>;
  norm_forward<false>(backend, "rms_norm",
                      NormForward<D>{.x = elements<T>(args.x),
                                     .residual = elements<T>(args.residual),
                                     .weight = elements<T>(args.weight),
                                     .sum = elements<T>(args.sum),
                                     .y = elements<T>(args.y),
                                     .rstd = args.rstd.as<A>(),
                                     .rows = args.rstd.numel(),
                                     .width = args.weight.numel(),
                                     .eps = static_cast<A>(args.eps)});
}

template <class T>
void rms_norm_backward(Cuda backend, const RmsNormBackward& args) {
  using D = OnDevice<T>;
  using A = ComputeType<D>;
  norm_backward<false>(backend, "rms_norm_backward",
                       NormBackward<D>{.x = elements<T>(args.x),
                                       .weight = elements<T>(args.weight),
                                       .rstd = args.rstd.as<A>(),
                                       .dy = elements<T>(args.dy),
                                       .dsum = elements<T>(args.dsum),
                                       .dx = elements<T>(args.dx),
                                       .dweight = args.dweight.as<A>(),
                                       .rows = args.rstd.numel(),
                                       .width = args.weight.numel()});
}

#define HEW_INSTANTIATE(T)                                              \
  template void layer_norm_forward<T>(Cuda, const LayerNormForward&);   \
  template void layer_norm_backward<T>(Cuda, const LayerNormBackward&); \
  template void rms_norm_forward<T>(Cuda, const RmsNormForward&);       \
  template void rms_norm_backward<T>(Cuda, const RmsNormBackward&);
HEW_INSTANTIATE(float)
HEW_INSTANTIATE(double)
HEW_INSTANTIATE(BFloat16)
#undef HEW_INSTANTIATE

}  // namespace hew::kernels
