#pragma once

#include <functional>
#include <string>
#include <type_traits>

#include "core/error.h"

namespace hew::test {

/// What a bench says of options that it refuses; empty where it runs.
template <class Options>
std::string refusal_of(void (*bench)(const Options&,
                                     const std::function<void(const std::string&)>& print),
                       const std::type_identity_t<Options>& options) {
  try {
    bench(options, [](const std::string&) {});
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

}  // namespace hew::test
