#pragma once

#include "kernels/hopper/bsr_config.cuh"

namespace hew::kernels::hopper {

/// Where a thread's sums of its warp's 16 features belong in an output buffer, [tokens, 64
/// features] in pieces of swizzled rows, and the way between registers and there. At a time kTokens
/// tokens are moved, from a multiple of that on: values [kTokens / 8][2][2] as wgmma leaves them,
/// for groups of 8 tokens, features f and f + 8, and pairs of tokens.
template <class Config, class Element = typename Config::Element>
class BsrOutputPlace;

/// By 8 × 8 matrices, transposed on the way.
template <class Config>
class BsrOutputPlace<Config, __nv_bfloat16> {
 public:
  static constexpr int kTokens = 16;
  static constexpr int kValues = 8;
  using Words = std::uint32_t[4];  // pairs of values

  __device__ BsrOutputPlace(int warp, int lane) {
    // Lanes 0–7, 8–15, … give the rows of four 8 × 8 matrices: features 0–7 and 8–15 of the warp
    // for tokens 0–7, then for tokens 8–15.
    const int token = lane / 16 * 8 + lane % 8;
    const int piece = warp * 16 / Config::kRow;
    const int chunk = warp * 16 % Config::kRow / 8 + lane / 8 % 2;  // of 8 features, 16 bytes
    // What the swizzle exchanges chunks by: bits of the address that count rows.
    const int swizzled = chunk ^ token / (128 / Config::kRowBytes) % (Config::kRowBytes / 16);
    offset_ = static_cast<std::uint32_t>(piece * Config::kPieceBytes + token * Config::kRowBytes +
                                         swizzled * 16);
  }

  __device__ void put(std::uint32_t buffer, int token, const float (&values)[kValues]) const {
    store_transposed(at(buffer, token), pack_bf16(values[0], values[1]),
                     pack_bf16(values[2], values[3]), pack_bf16(values[4], values[5]),
                     pack_bf16(values[6], values[7]));
  }
  __device__ void get(std::uint32_t buffer, int token, Words& words) const {
    load_transposed(at(buffer, token), words);
  }
  __device__ static float value(const Words& words, int i) {
    return i % 2 == 0 ? low_bf16(words[i / 2]) : high_bf16(words[i / 2]);
  }

 private:
  __device__ std::uint32_t at(std::uint32_t buffer, int token) const {
    return buffer + offset_ + static_cast<std::uint32_t>(token * Config::kRowBytes);
  }

  std::uint32_t offset_;
};

/// One by one: a warp's 32 words are 8 features of 4 tokens, in as many banks (of rows of 64 bytes,
/// in half as many).
template <class Config>
class BsrOutputPlace<Config, float> {
 public:
  static constexpr int kTokens = 8;
  static constexpr int kValues = 4;
  using Words = std::uint32_t[4];

  __device__ BsrOutputPlace(int warp, int lane) {
    const int token = 2 * (lane % 4);
    const int piece = warp * 16 / Config::kRow;
    const int chunk = warp * 16 % Config::kRow / 4 + lane / 16;  // of 4 features, 16 bytes
    const int swizzled = chunk ^ token / (128 / Config::kRowBytes) % (Config::kRowBytes / 16);
    offset_ = static_cast<std::uint32_t>(piece * Config::kPieceBytes + token * Config::kRowBytes +
                                         swizzled * 16 + lane / 4 % 4 * 4);
  }

  __device__ void put(std::uint32_t buffer, int token, const float (&values)[kValues]) const {
#pragma unroll
    for (int i = 0; i < kValues; ++i) store_float(at(buffer, token, i), values[i]);
  }
  __device__ void get(std::uint32_t buffer, int token, Words& words) const {
#pragma unroll
    for (int i = 0; i < kValues; ++i) words[i] = __float_as_uint(load_float(at(buffer, token, i)));
  }
  __device__ static float value(const Words& words, int i) {
    return __uint_as_float(words[i]);
  }

 private:
  // Value i belongs to the token behind for odd i, and 8 features, two chunks, further for i ≥ 2.
  // In rows of 128 bytes the token behind exchanges chunks by another number.
  __device__ std::uint32_t at(std::uint32_t buffer, int token, int i) const {
    const std::uint32_t next = Config::kRowBytes == 128 ? 16 : 0;
    const std::uint32_t exchanged = (i / 2 != 0 ? 32U : 0U) ^ (i % 2 != 0 ? next : 0U);
    return buffer + (offset_ ^ exchanged) +
           static_cast<std::uint32_t>((token + i % 2) * Config::kRowBytes);
  }

  std::uint32_t offset_;
};

}  // namespace hew::kernels::hopper
