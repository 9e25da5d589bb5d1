#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

namespace hew::kernels {

// What the compiler may use of this processor. GCC's and clang's vector types stand in for
// intrinsics: on an instruction set without these sizes the same code is only slower.
#if defined(__AVX512F__)
inline constexpr int kVectorBytes = 64;
inline constexpr int kVectorRegisters = 32;
#elif defined(__AVX__)
inline constexpr int kVectorBytes = 32;
inline constexpr int kVectorRegisters = 16;
#elif defined(__aarch64__)
inline constexpr int kVectorBytes = 16;
inline constexpr int kVectorRegisters = 32;
#else
inline constexpr int kVectorBytes = 16;
inline constexpr int kVectorRegisters = 16;
#endif

/// Lanes values of T in one register.
template <class T, int kLanes>
struct Vector {
  static constexpr int kWidth = kLanes;
  typedef T Type __attribute__((vector_size(sizeof(T) * kLanes)));  // NOLINT(modernize-use-using)

  static Type load(const T* from) {
    Type v;
    std::memcpy(&v, from, sizeof(v));
    return v;
  }
  static void store(Type v, T* to) { std::memcpy(to, &v, sizeof(v)); }
};

/// body(integral_constant 0) … body(integral_constant n − 1), unrolled whatever the compiler
/// thinks.
template <int n, class Body>
[[gnu::always_inline]] inline void unroll(const Body& body) {
  [&]<int... kIs>(std::integer_sequence<int, kIs...>) __attribute__((always_inline)) {
    (body(std::integral_constant<int, kIs>{}), ...);
  }
  (std::make_integer_sequence<int, n>{});
}

/// Cuts the b columns of a block into panels of whole registers: body.operator()<V, nv>(column) for
/// a panel of nv vectors V that starts at that column, nv = 4, 2 or 1. b is a multiple of 8.
template <class T, class Body>
void for_each_panel(std::int64_t b, const Body& body) {
  constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));
  using Whole = Vector<T, kLanes>;
  constexpr std::int64_t kWide = kLanes;
  std::int64_t column = 0;
  for (; b - column >= 4 * kWide; column += 4 * kWide) body.template operator()<Whole, 4>(column);
  if constexpr (2 * kWide >= 8) {
    for (; b - column >= 2 * kWide; column += 2 * kWide) {
      body.template operator()<Whole, 2>(column);
    }
  }
  if constexpr (kWide >= 8) {
    for (; b - column >= kWide; column += kWide) body.template operator()<Whole, 1>(column);
  }
  if constexpr (kWide > 8) {
    for (; b - column >= 8; column += 8) body.template operator()<Vector<T, 8>, 1>(column);
  }
}

}  // namespace hew::kernels
