#pragma once

#include <string>
#include <vector>

namespace hew {

/// Which recipe a command line means, and what it changes in it.
struct RecipeChoice {
  std::string path;  // empty: none was named
  std::vector<std::string> overrides;
};

/// Words with a `=` are overrides; the one other word, if there is one, is the recipe. Throws
/// ConfigError where there are more.
RecipeChoice choose_recipe(const std::vector<std::string>& words);

}  // namespace hew
