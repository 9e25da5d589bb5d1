#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "io/atomic_file.h"

namespace hew {

/// What a bench tells: lines of a table, or with `json` one object a row, which `output`, a file,
/// takes in any case.
class BenchReport {
 public:
  using Print = std::function<void(const std::string&)>;

  /// Throws DataError where `output`, if not empty, cannot be written.
  BenchReport(Print print, bool json, const std::string& output);

  /// A line of the table that is no row.
  void head(const std::string& line) const;
  void row(const nlohmann::ordered_json& object, const std::string& line);
  /// The file is there once this returns.
  void finish();

 private:
  Print print_;
  bool json_;
  std::optional<AtomicFile> file_;
};

}  // namespace hew
