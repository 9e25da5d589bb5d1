#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace hew::train {

/// Where a recipe's value was written: a line of a file, or an override.
struct Place {
  std::string source;        // "recipe.yaml", or "command line: optim.lr=3"
  int line = 0;              // from 1; 0 for an override
  std::string override_key;  // "optim.lr"; empty in a file
};

/// "recipe.yaml:12: optim.lr"; of an override what was written alone, if it names the key. `key`
/// may be empty where the text has no key to blame.
std::string origin_of(const Place& place, std::string_view key);

/// Mistakes of one recipe, collected so that the user sees all of them at once.
class Problems {
 public:
  void add(const Place& place, std::string_view key, std::string_view what);
  bool empty() const { return problems_.empty(); }
  /// Throws ConfigError, a line for each problem: those of the file by line, then those of
  /// overrides.
  void throw_if_any() const;

 private:
  struct Problem {
    int line;
    std::string text;
  };
  std::vector<Problem> problems_;
};

}  // namespace hew::train
