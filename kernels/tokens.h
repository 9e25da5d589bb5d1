#pragma once

#include "core/tensor.h"
#include "kernels/dispatch.h"

namespace hew::kernels {

/// A class token in front of others, and the positions of all: with o = 1 where there is one, else
/// 0, and T = n + o
///   y[b, 0, :] ← class_token + positions[0],   y[b, o + i, :] ← x[b, i, :] + positions[o + i].
struct JoinTokens {
  ConstView x;                 // [B, n, C]
  ConstView class_token = {};  // [C], or empty
  ConstView positions;         // [T, C]
  View y;                      // [B, T, C]; x where there is no class token
};

/// All of one dtype. Throws ShapeError, DtypeError.
void join_tokens(const JoinTokens& args, const Stream& stream);

/// y[b, :] ← Σ_t x[b, t, :] / T; x [B, T, C], y [B, C], in a fixed order.
void mean_tokens(const ConstView& x, const View& y, const Stream& stream);
/// dx[b, t, :] ← dy[b, :] / T
void mean_tokens_backward(const ConstView& dy, const View& dx, const Stream& stream);

template <class T>
void join_tokens(Cpu, const JoinTokens& args);
template <class T>
void join_tokens(Cuda, const JoinTokens& args);
template <class T>
void mean_tokens(Cpu, const ConstView& x, const View& y);
template <class T>
void mean_tokens(Cuda, const ConstView& x, const View& y);
template <class T>
void mean_tokens_backward(Cpu, const ConstView& dy, const View& dx);
template <class T>
void mean_tokens_backward(Cuda, const ConstView& dy, const View& dx);

}  // namespace hew::kernels
