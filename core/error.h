#pragma once

#include <fmt/format.h>

#include <source_location>
#include <stdexcept>
#include <string>
#include <string_view>

namespace hew {

/// Base of every error a user can cause. The text names the operation, what it got and what it
/// wanted: `[layer_norm] weight has shape [8], expected [16]`.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class ShapeError : public Error {
 public:
  using Error::Error;
};

class DtypeError : public Error {
 public:
  using Error::Error;
};

/// A recipe, an override or a command line that cannot be carried out.
class ConfigError : public Error {
 public:
  using Error::Error;
};

/// A file that is missing, damaged, or not what its name promises.
class DataError : public Error {
 public:
  using Error::Error;
};

/// A library or the operating system refused a call, with its code; or, with code 0, this build or
/// machine has not got what a call needs.
class BackendError : public Error {
 public:
  BackendError(std::string_view api, int code, std::string_view message,
               std::source_location where = std::source_location::current());
};

/// Throws E with `format` unless `condition` holds. The text is only formatted on failure.
template <class E, class... Args>
void require(bool condition, fmt::format_string<Args...> format, Args&&... args) {
  if (!condition)
    throw E(fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace hew
