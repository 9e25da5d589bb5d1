#pragma once

#include "core/tensor.h"
#include "kernels/dispatch.h"

namespace hew::kernels {

/// Which keys a query sees, and how sharply.
struct AttentionOptions {
  bool causal = true;  // query i sees keys 0 … i + Tk − Tq: both ends are the same moment
  double scale = 0;    // factor of q·k; 0 stands for 1/√D
};

/// Scaled dot-product attention (Vaswani et al. 2017) with grouped heads: query head h reads key
/// head h / (H / Hkv).
///   s[i, j] = scale·q[i]·k[j],  lse[i] = log Σ_j e^s[i, j],  y[i] = Σ_j e^(s[i, j] − lse[i])·v[j]
struct AttentionForward {
  ConstView q;  // [B, Tq, H, D]
  ConstView k;  // [B, Tk, Hkv, D]
  ConstView v;  // [B, Tk, Hkv, D]
  AttentionOptions options;
  View y;    // [B, Tq, H, D]
  View lse;  // [B, H, Tq]
};

/// Gradients of AttentionForward from its inputs and outputs; probabilities are made again.
struct AttentionBackward {
  ConstView q;    // [B, Tq, H, D]
  ConstView k;    // [B, Tk, Hkv, D]
  ConstView v;    // [B, Tk, Hkv, D]
  ConstView y;    // [B, Tq, H, D]
  ConstView lse;  // [B, H, Tq]
  ConstView dy;   // [B, Tq, H, D]
  AttentionOptions options;
  View dq;  // [B, Tq, H, D]
  View dk;  // [B, Tk, Hkv, D]
  View dv;  // [B, Tk, Hkv, D]
};

/// lse has the accumulator of q's dtype, the rest q's. Outputs overlap no input. Throw ShapeError
/// (H must be a multiple of Hkv, Tk ≥ 1, and Tk ≥ Tq if causal; on a GPU D ≤ 256), DtypeError, and
/// ConfigError on a negative scale. On a GPU bfloat16 goes to cuDNN where that can do it, see
/// attention_settings.h, and float32 is multiplied as tf32 where ProductSettings allow it, see
/// attention_tf32.h.
void attention_forward(const AttentionForward& args, const Stream& stream);
void attention_backward(const AttentionBackward& args, const Stream& stream);

template <class T>
void attention_forward(Cpu, const AttentionForward& args);
template <class T>
void attention_forward(Cuda, const AttentionForward& args);
template <class T>
void attention_backward(Cpu, const AttentionBackward& args);
template <class T>
void attention_backward(Cuda, const AttentionBackward& args);

}  // namespace hew::kernels
