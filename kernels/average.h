#pragma once

#include <span>

#include "core/tensor.h"
#include "kernels/dispatch.h"

namespace hew::kernels {

/// A tensor and its moving average, of one shape.
struct AverageTensors {
  ConstView value;
  View average;
};

/// average ← decay·average + (1 − decay)·value, for all tensors at once, of one dtype, float32 or
/// float64. With decay = 0 a finite average becomes the value, bit for bit. Throws ShapeError,
/// DtypeError.
void move_averages(std::span<const AverageTensors> tensors, double decay, const Stream& stream);

template <class T>
void move_averages(Cpu, std::span<const AverageTensors> tensors, double decay);
template <class T>
void move_averages(Cuda, std::span<const AverageTensors> tensors, double decay);

}  // namespace hew::kernels
