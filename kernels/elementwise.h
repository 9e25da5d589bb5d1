#pragma once

#include <span>

#include "core/tensor.h"
#include "kernels/dispatch.h"

namespace hew::kernels {

/// y ← a + b, all of one shape. y may be a or b.
void add(const ConstView& a, const ConstView& b, const View& y, const Stream& stream);
/// y ← a ⊙ b, all of one shape. y may be a or b.
void multiply(const ConstView& a, const ConstView& b, const View& y, const Stream& stream);
/// y ← factor·Σ_k terms[k], added in their order, all of one shape. y may be one of them. Throws
/// ShapeError unless there are 1 to kMaxTerms.
inline constexpr int kMaxTerms = 16;
void scaled_sum(std::span<const ConstView> terms, double factor, const View& y,
                const Stream& stream);
/// y ← factor·y
void scale(double factor, const View& y, const Stream& stream);
/// y ← factor·y, where factor[] has the accumulator of y's dtype.
void scale_by(const ConstView& factor, const View& y, const Stream& stream);
/// y ← value
void fill(double value, const View& y, const Stream& stream);
/// y[outer, inner] ← x[outer, inner] + b[inner], where b's shape is the tail of x's. y may be x.
void add_broadcast(const ConstView& x, const ConstView& b, const View& y, const Stream& stream);
/// y[inner] ← Σ_outer x[outer, inner], where y's shape is the tail of x's, in a fixed order; y has
/// the accumulator of x's dtype.
void sum_leading(const ConstView& x, const View& y, const Stream& stream);
/// y ← x converted between float32, float64 and bfloat16 (round to nearest even).
void cast(const ConstView& x, const View& y, const Stream& stream);
/// Σ x² in float64, in an order that does not depend on the number of threads. Waits for a GPU.
double sum_of_squares(const ConstView& x, const Stream& stream);

template <class T>
void add(Cpu, const ConstView& a, const ConstView& b, const View& y);
template <class T>
void add(Cuda, const ConstView& a, const ConstView& b, const View& y);
template <class T>
void multiply(Cpu, const ConstView& a, const ConstView& b, const View& y);
template <class T>
void multiply(Cuda, const ConstView& a, const ConstView& b, const View& y);
template <class T>
void scaled_sum(Cpu, std::span<const ConstView> terms, double factor, const View& y);
template <class T>
void scaled_sum(Cuda, std::span<const ConstView> terms, double factor, const View& y);
template <class T>
void scale(Cpu, double factor, const View& y);
template <class T>
void scale(Cuda, double factor, const View& y);
template <class T>
void scale_by(Cpu, const ConstView& factor, const View& y);
template <class T>
void scale_by(Cuda, const ConstView& factor, const View& y);
template <class T>
void fill(Cpu, double value, const View& y);
template <class T>
void fill(Cuda, double value, const View& y);
template <class T>
void add_broadcast(Cpu, const ConstView& x, const ConstView& b, const View& y);
template <class T>
void add_broadcast(Cuda, const ConstView& x, const ConstView& b, const View& y);
template <class T>
void sum_leading(Cpu, const ConstView& x, const View& y);
template <class T>
void sum_leading(Cuda, const ConstView& x, const View& y);
template <class T>
double sum_of_squares(Cpu, const ConstView& x);
template <class T>
double sum_of_squares(Cuda, const ConstView& x);
void cast(Cpu, const ConstView& x, const View& y);
void cast(Cuda, const ConstView& x, const View& y);

}  // namespace hew::kernels
