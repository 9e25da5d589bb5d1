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

/// The same of `options` after a change.
template <class Options, class Change>
std::string refusal_of(void (*bench)(const Options&,
                                     const std::function<void(const std::string&)>& print),
                       std::type_identity_t<Options> options, const Change& change) {
  change(options);
  return refusal_of(bench, options);
}

}  // namespace hew::test
