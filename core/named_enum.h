#pragma once

#include <optional>
#include <string_view>
#include <utility>

namespace hew {

/// Specialised beside an enum that users write by name: `static constexpr std::array kTable` of
/// (value, name) pairs, all values present.
template <class E>
struct EnumNames;

template <class E>
concept NamedEnum = requires {
  EnumNames<E>::kTable.size();
};

template <NamedEnum E>
constexpr std::string_view name_of(E value) {
  for (const auto& [entry, name] : EnumNames<E>::kTable) {
    if (entry == value)
      return name;
  }
  return "?";
}

/// Nothing if no value has this name.
template <NamedEnum E>
constexpr std::optional<E> parse_named(std::string_view text) {
  for (const auto& [entry, name] : EnumNames<E>::kTable) {
    if (name == text)
      return entry;
  }
  return std::nullopt;
}

}  // namespace hew
