#pragma once

namespace hew::kernels {

/// The search for the μ at which Σ m(μ) = k, an increasing function of μ whose root lies within
/// [low, high].
struct SoftTopRoot {
  double low;
  double high;
  double at;  // where the function is wanted next

  /// Takes excess = Σ m − k at `at`, and its derivative there. Returns whether `at` has moved.
  constexpr bool advance(double excess, double derivative) {
    if (excess < 0) {
      low = at;
    } else {
      high = at;
    }
    double next = at - excess / derivative;
    if (!(next > low && next < high))  // also where the derivative is 0
      next = low + (high - low) / 2;
    const bool moved = excess != 0 && next != at;
    if (moved)
      at = next;
    return moved;
  }
};

}  // namespace hew::kernels
