#pragma once

#include <Eigen/Core>
#include <cstdint>

namespace hew::kernels {

/// Plain memory as an Eigen array, whose exp and tanh are vectorised where the compiler's are not.
template <class T>
using ArrayMap = Eigen::Map<Eigen::Array<T, Eigen::Dynamic, 1>>;
template <class T>
using ConstArrayMap = Eigen::Map<const Eigen::Array<T, Eigen::Dynamic, 1>>;

}  // namespace hew::kernels
