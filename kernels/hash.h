#pragma once

#include <cstdint>

#include "core/tensor.h"
#include "kernels/dispatch.h"

namespace hew::kernels {

/// hash, int64 [1] ← Σ_i mix_word(w_i, i) modulo 2⁶⁴ over the 8-byte little-endian words w of x's
/// bytes, the last one filled up with zeros; 0 for none. x is of any dtype. The same on every
/// device, since the order of such a sum does not matter. Neither length nor dtype is in it. Throws
/// ShapeError, DtypeError, BackendError.
void hash_words(const ConstView& x, const View& hash, const Stream& stream);

/// A bijection of words at each index: the finaliser of SplitMix64 (Steele, Lea, Flood 2014) over
/// word ⊕ (index + 1)·odd, so that a word counts for where it stands.
constexpr std::uint64_t mix_word(std::uint64_t word, std::uint64_t index) {
  std::uint64_t z = word ^ ((index + 1) * 0x9E3779B97F4A7C15U);
  z = (z ^ (z >> 30U)) * 0xBF58476D1CE4E5B9U;
  z = (z ^ (z >> 27U)) * 0x94D049BB133111EBU;
  return z ^ (z >> 31U);
}

void hash_words(Cpu, const ConstView& x, const View& hash);
void hash_words(Cuda, const ConstView& x, const View& hash);

}  // namespace hew::kernels
