#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "core/stream.h"

namespace hew::kernels {

/// What a choice was made for: who makes it, the operation, and all of its operands that matter.
/// Alignments are powers of two in bytes, up to 16; 0 where there is no such operand.
struct ProductKey {
  std::int64_t library = 0;       // the library's version
  std::int64_t architecture = 0;  // 90 for Hopper
  std::int64_t multiprocessors = 0;
  std::int64_t op = 0;  // 0 forward, 1 gradient of the input, 2 of the weight
  std::int64_t dtype = 0;
  std::int64_t tf32 = 0;
  std::int64_t deterministic = 0;
  std::int64_t activation = 0;
  std::int64_t accumulate = 0;
  std::int64_t remake = 0;  // of the input gradient: the activation too
  std::int64_t m = 0;
  std::int64_t n = 0;
  std::int64_t k = 0;
  std::int64_t align_a = 0;
  std::int64_t align_b = 0;
  std::int64_t align_out = 0;
  std::int64_t align_bias = 0;
  std::int64_t align_pre = 0;

  friend auto operator<=>(const ProductKey&,
                          const ProductKey&) = default;  // NOLINT(modernize-use-nullptr)
};

/// How a product is computed: what the library fuses with it, and its algorithm as the library
/// describes it.
struct ProductChoice {
  std::uint32_t epilogue = 0;
  std::array<std::uint64_t, 8> algorithm{};
  bool verified = false;  // by this process; not exported
};

/// How dense products are computed on one stream: `stream.state->get<ProductSettings>(stream)`.
/// Means nothing on the CPU.
struct ProductSettings {
  explicit ProductSettings(const Stream& /*stream*/) {}

  bool tf32 = false;           // float32 products and attention may round factors to tf32
  bool deterministic = false;  // choose without measuring, so that every run chooses alike
  std::map<ProductKey, ProductChoice> choices;

  /// A first line with the format, then one choice a line.
  std::string export_choices() const;
  /// Adds what export_choices() wrote, in place of what is there for the same key. Choices of
  /// another version of the library or for another device stay unused. Throws DataError, with
  /// nothing added.
  void import_choices(std::string_view text);
};

}  // namespace hew::kernels
