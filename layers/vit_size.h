#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <utility>

#include "core/named_enum.h"

namespace hew::layers {

/// Vision transformers that have a name (Dosovitskiy et al. 2021; Touvron et al. 2021).
enum class VitSize : std::uint8_t { kCustom, kTiny, kSmall, kBase, kLarge, kHuge };

struct VitShape {
  std::int64_t layers = 0;
  std::int64_t heads = 0;
  std::int64_t width = 0;
};

/// All zero for kCustom. The MLP is 4·width.
constexpr VitShape vit_shape(VitSize size) {
  switch (size) {
    case VitSize::kTiny:
      return {.layers = 12, .heads = 3, .width = 192};
    case VitSize::kSmall:
      return {.layers = 12, .heads = 6, .width = 384};
    case VitSize::kBase:
      return {.layers = 12, .heads = 12, .width = 768};
    case VitSize::kLarge:
      return {.layers = 24, .heads = 16, .width = 1024};
    case VitSize::kHuge:
      return {.layers = 32, .heads = 16, .width = 1280};
    case VitSize::kCustom:
      break;
  }
  return {};
}

}  // namespace hew::layers

namespace hew {

template <>
struct EnumNames<layers::VitSize> {
  using E = layers::VitSize;
  static constexpr auto kTable =
      std::to_array<std::pair<E, std::string_view>>({{E::kCustom, "custom"},
                                                     {E::kTiny, "vit_tiny"},
                                                     {E::kSmall, "vit_small"},
                                                     {E::kBase, "vit_base"},
                                                     {E::kLarge, "vit_large"},
                                                     {E::kHuge, "vit_huge"}});
};

}  // namespace hew
