#pragma once

#include <CLI/CLI.hpp>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>

namespace hew {

/// For options that take a number of at least `least`.
inline CLI::Validator at_least(int least) {
  return CLI::Validator(
      [least](const std::string& text) {
        double value = 0;
        const char* const end = text.data() + text.size();
        const auto [at, error] = std::from_chars(text.data(), end, value);
        const bool number = error == std::errc() && at == end && std::isfinite(value);
        return number && value >= least
                   ? std::string()
                   : "got " + text + ", expected " + std::to_string(least) + " or more";
      },
      /*validator_desc=*/"");
}

/// For a seed, which as a recipe's is a whole number from 0 to 2⁶³ − 1.
inline CLI::Validator is_seed() {
  return CLI::Validator(
      [](const std::string& text) {
        std::int64_t value = -1;
        const char* const end = text.data() + text.size();
        const auto [at, error] = std::from_chars(text.data(), end, value);
        return error == std::errc() && at == end && value >= 0
                   ? std::string()
                   : "got " + text + ", expected a whole number from 0 to 2^63 - 1";
      },
      /*validator_desc=*/"");
}

}  // namespace hew
