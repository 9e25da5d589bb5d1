#pragma once

#include <yaml-cpp/yaml.h>

#include <cstddef>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "train/recipe_problems.h"
#include "train/recipe_schema.h"

namespace hew::train {

/// The keys a recipe may have, as patterns: list items are `#`, as in `sparsity.#.block`.
class KeySet {
 public:
  explicit KeySet(const Schema& schema);
  bool is_leaf(std::string_view key) const;
  /// Has keys below it: `optim`, `sparsity.0`, and `` (the whole recipe).
  bool is_section(std::string_view key) const;
  bool is_list(std::string_view key) const;
  /// "unknown key, did you mean optim.lr?"; the guesses are put into `guesses`.
  std::string explain_unknown(std::string_view key, std::vector<std::string>& guesses) const;

 private:
  std::vector<std::string> leaves_;
  std::set<std::string, std::less<>> sections_;
};

/// YAML taken apart by key: every leaf the user wrote, and where. Values are not looked at.
class RecipeTree {
 public:
  struct Leaf {
    YAML::Node node;
    Place place;
  };

  RecipeTree(const KeySet& keys, std::string source_name, Problems& problems);

  /// Throws ConfigError if the text is no YAML mapping: then there are no keys to talk about.
  void add_text(std::string_view text);
  /// `key=value`; takes the place of everything at or below the key.
  void apply_override(const std::string& assignment);

  const Leaf* find(const std::string& key) const;
  /// Where the key is, or else the section that it should be in.
  Place place_of(std::string_view key) const;
  std::size_t list_size() const { return list_size_; }
  /// True if a misspelt key was taken for this one, or for a section around it.
  bool was_misspelt(std::string_view key) const;

 private:
  void add_node(const YAML::Node& node, const std::string& key, const Place& place);
  void add_section(const YAML::Node& node, const std::string& key, const Place& place);
  void add_list(const YAML::Node& node, const std::string& key, const Place& place);
  void add_unknown(const std::string& key, const Place& place);
  void erase(const std::string& key);
  Place at_mark(const YAML::Mark& mark, const Place& around) const;

  const KeySet& keys_;
  std::string source_;
  Problems& problems_;
  std::map<std::string, Leaf, std::less<>> leaves_;
  std::map<std::string, Place, std::less<>> sections_;
  std::vector<std::string> misspelt_;
  std::size_t list_size_ = 0;
};

}  // namespace hew::train
