#include "app/recipe_choice.h"

#include "core/error.h"

namespace hew {

RecipeChoice choose_recipe(const std::vector<std::string>& words) {
  RecipeChoice choice;
  for (const std::string& word : words) {
    if (word.find('=') != std::string::npos) {
      choice.overrides.push_back(word);
    } else {
      require<ConfigError>(choice.path.empty(), "command line: two recipes, {} and {}", choice.path,
                           word);
      choice.path = word;
    }
  }
  return choice;
}

}  // namespace hew
