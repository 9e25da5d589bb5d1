#pragma once

#include "core/tensor.h"
#include "kernels/dispatch.h"

namespace hew::kernels {

/// Per row of x, C wide (Ba et al. 2016):
///   mean = Σ x / C,  rstd = 1/√(Σ (x − mean)² / C + eps),  y = (x − mean)·rstd ⊙ weight + bias
/// With a residual, sum ← x + residual, rounded to x's dtype, and x above is that sum.
struct LayerNormForward {
  ConstView x;              // [..., C], M rows
  ConstView residual = {};  // [..., C]; empty for none
  ConstView weight;         // [C]
  ConstView bias;           // [C]; empty for none
  double eps = 1e-5;
  View sum = {};  // [..., C], exactly where there is a residual; may be x or residual
  View y;         // [..., C]; may be x or residual, not sum
  View mean;      // [M]
  View rstd;      // [M]
};

/// Gradients of LayerNormForward from what it normalised (x, or sum) and what it saved:
///   dx ← ∂L/∂y·∂y/∂x + dsum
struct LayerNormBackward {
  ConstView x;          // [..., C]
  ConstView weight;     // [C]
  ConstView mean;       // [M]
  ConstView rstd;       // [M]
  ConstView dy;         // [..., C]
  ConstView dsum = {};  // [..., C], the gradient that reaches x past the norm; empty for none
  View dx;              // [..., C]; may be dy or dsum
  View dweight;         // [C]; empty if not wanted
  View dbias;           // [C]; empty if not wanted
};

/// Per row of x, C wide (Zhang and Sennrich 2019):
///   rstd = 1/√(Σ x² / C + eps),  y = x·rstd ⊙ weight
/// residual and sum as in LayerNormForward.
struct RmsNormForward {
  ConstView x;              // [..., C], M rows
  ConstView residual = {};  // [..., C]; empty for none
  ConstView weight;         // [C]
  double eps = 1e-5;
  View sum = {};  // [..., C], exactly where there is a residual; may be x or residual
  View y;         // [..., C]; may be x or residual, not sum
  View rstd;      // [M]
};

/// Gradients of RmsNormForward; x, dsum and dx as in LayerNormBackward.
struct RmsNormBackward {
  ConstView x;          // [..., C]
  ConstView weight;     // [C]
  ConstView rstd;       // [M]
  ConstView dy;         // [..., C]
  ConstView dsum = {};  // [..., C]; empty for none
  View dx;              // [..., C]; may be dy or dsum
  View dweight;         // [C]; empty if not wanted
};

/// mean, rstd, dweight and dbias have the accumulator of x's dtype, the rest x's. Sums over rows
/// are taken in an order that does not depend on the number of threads. All throw ShapeError,
/// DtypeError.
void layer_norm_forward(const LayerNormForward& args, const Stream& stream);
void layer_norm_backward(const LayerNormBackward& args, const Stream& stream);
void rms_norm_forward(const RmsNormForward& args, const Stream& stream);
void rms_norm_backward(const RmsNormBackward& args, const Stream& stream);

template <class T>
void layer_norm_forward(Cpu, const LayerNormForward& args);
template <class T>
void layer_norm_forward(Cuda, const LayerNormForward& args);
template <class T>
void layer_norm_backward(Cpu, const LayerNormBackward& args);
template <class T>
void layer_norm_backward(Cuda, const LayerNormBackward& args);
template <class T>
void rms_norm_forward(Cpu, const RmsNormForward& args);
template <class T>
void rms_norm_forward(Cuda, const RmsNormForward& args);
template <class T>
void rms_norm_backward(Cpu, const RmsNormBackward& args);
template <class T>
void rms_norm_backward(Cuda, const RmsNormBackward& args);

}  // namespace hew::kernels
