#pragma once

#include <functional>
#include <initializer_list>
#include <set>
#include <string>
#include <string_view>

#include "train/recipe.h"
#include "train/recipe_tree.h"

namespace hew::train {

/// Reports contradictions at the place of the first key concerned, and keeps silent where one of
/// the keys is already known to be wrong.
class Checker {
 public:
  Checker(const RecipeTree& tree, const std::set<std::string>& wrong, Problems& problems)
      : tree_(tree), wrong_(wrong), problems_(problems) {}

  /// `explain` gives the text and is only called if the check fails; `holds` only if no key is
  /// wrong.
  void check(std::initializer_list<std::string> keys, const std::function<bool()>& holds,
             const std::function<std::string()>& explain) const;
  bool is_wrong(const std::string& key) const { return wrong_.contains(key); }

 private:
  const RecipeTree& tree_;
  const std::set<std::string>& wrong_;
  Problems& problems_;
};

/// Contradictions across keys of a recipe with every default filled in and every step resolved.
void check_recipe(const Recipe& recipe, const Checker& checker);
/// The part of check_recipe that concerns `sparsity`.
void check_rules(const Recipe& recipe, const Checker& checker);

}  // namespace hew::train
