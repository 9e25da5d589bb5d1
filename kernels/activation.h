#pragma once

#include <cstdint>
#include <string_view>

#include "core/tensor.h"
#include "kernels/dispatch.h"

namespace hew::kernels {

/// Elementwise nonlinearity that a linear product can end with.
///   kRelu      max(x, 0)
///   kGelu      x·Φ(x), Φ the standard normal distribution function
///   kGeluTanh  x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³)))   (GPT-2's form)
///   kSilu      x / (1 + e^−x)
enum class Activation : std::uint8_t { kNone, kRelu, kGelu, kGeluTanh, kSilu };

/// "none", "relu", "gelu", "gelu_tanh", "silu". Throws ConfigError.
Activation parse_activation(std::string_view name);
std::string_view name_of(Activation activation);

/// y ← act(x), one shape. y may be x.
void activation_forward(Activation activation, const ConstView& x, const View& y,
                        const Stream& stream);

/// dx ← dy ⊙ act'(x), where x is what activation_forward was given;
/// dbias[n] ← Σ_m dx[m, n] before dx is rounded, in an order that shapes alone fix;
/// y ← act(x), the bits that activation_forward gives, for who has not kept them.
struct ActivationBackward {
  Activation activation = Activation::kNone;
  ConstView x;      // any shape; [M, N] where dbias is wanted
  ConstView dy;     // x's shape
  View dx;          // x's shape; may be dy or x
  View dbias = {};  // [N], the accumulator of x's dtype; empty if not wanted
  View y = {};      // x's shape; may be x, unless dx is; empty if not wanted
};
void activation_backward(const ActivationBackward& args, const Stream& stream);
/// The same without dbias.
inline void activation_backward(Activation activation, const ConstView& x, const ConstView& dy,
                                const View& dx, const Stream& stream) {
  activation_backward({.activation = activation, .x = x, .dy = dy, .dx = dx}, stream);
}

template <class T>
void activation_forward(Cpu, Activation activation, const ConstView& x, const View& y);
template <class T>
void activation_forward(Cuda, Activation activation, const ConstView& x, const View& y);
template <class T>
void activation_backward(Cpu, const ActivationBackward& args);
template <class T>
void activation_backward(Cuda, const ActivationBackward& args);

/// y[i] ← act(x[i]), i < n, on the calling thread: the epilogue of the CPU products. y may be x.
template <class T>
void apply_activation(Activation activation, const T* x, T* y, std::int64_t n);

}  // namespace hew::kernels
