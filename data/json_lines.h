#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>

namespace hew {

/// A line of a JSON-lines file.
class JsonLine {
 public:
  /// Parses `text`, which is line `number` of `path`. Throws DataError naming both.
  JsonLine(const std::string& path, std::int64_t number, const std::string& text);

  /// A string of the object. Throws DataError naming file, line and key where there is none.
  std::string text(const std::string& key) const;
  /// file:line, for errors.
  const std::string& where() const { return where_; }

 private:
  std::string where_;  // file:line
  nlohmann::json object_;
};

/// Calls `action` with each line that is not blank, in order, until it returns false. Throws
/// DataError naming the file that cannot be read.
void for_each_json_line(const std::string& path,
                        const std::function<bool(const JsonLine&)>& action);

}  // namespace hew
