#pragma once

#include <cstdint>
#include <type_traits>
#include <vector>

#include "core/dtype.h"

namespace hew::test {

/// −1, 2, 5, … in T, wrapped where T is too small.
template <class T>
std::vector<T> counting(std::int64_t size) {
  std::vector<T> values;
  for (std::int64_t i = 0; i < size; ++i) {
    if constexpr (std::is_same_v<T, BFloat16>) {
      values.emplace_back(static_cast<float>(i * 3 - 1));
    } else {
      values.push_back(static_cast<T>(i * 3 - 1));
    }
  }
  return values;
}

}  // namespace hew::test
