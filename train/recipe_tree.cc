#include "train/recipe_tree.h"

#include <algorithm>
#include <iterator>

#include "core/error.h"
#include "train/spelling.h"
#include "train/yaml_document.h"

namespace hew::train {
namespace {

bool is_index(std::string_view word) {
  constexpr std::size_t kMostDigits = 6;
  return !word.empty() && word.size() <= kMostDigits && (word == "0" || word[0] != '0') &&
         std::all_of(word.begin(), word.end(), [](char c) { return c >= '0' && c <= '9'; });
}

std::string join(std::string_view section, std::string_view word) {
  return section.empty() ? std::string(word) : fmt::format("{}.{}", section, word);
}

std::string parent(std::string_view key) {
  const std::size_t dot = key.rfind('.');
  return dot == std::string_view::npos ? "" : std::string(key.substr(0, dot));
}

bool is_at_or_below(std::string_view key, std::string_view section) {
  return section.empty() || key == section ||
         (key.starts_with(section) && key[section.size()] == '.');
}

// `sparsity.3.block` → `sparsity.#.block`, and the number's text.
std::pair<std::string, std::string> to_pattern(std::string_view key) {
  if (key.find('#') != std::string_view::npos)
    return {"", ""};  // a pattern is no key
  const std::string prefix = std::string(kRuleList) + ".";
  if (!key.starts_with(prefix))
    return {std::string(key), ""};
  const std::string_view rest = key.substr(prefix.size());
  const std::string_view word = rest.substr(0, rest.find('.'));
  if (!is_index(word))
    return {std::string(key), ""};
  return {prefix + "#" + std::string(rest.substr(word.size())), std::string(word)};
}

std::string with_index(std::string pattern, const std::string& index) {
  const std::size_t at = pattern.find('#');
  if (at != std::string::npos && !index.empty())
    pattern.replace(at, 1, index);
  return pattern;
}

}  // namespace

KeySet::KeySet(const Schema& schema) {
  for (const auto& field : schema.recipe) leaves_.push_back(field.key);
  for (const auto& field : schema.rule) {
    leaves_.push_back(fmt::format("{}.#.{}", kRuleList, field.key));
  }
  for (const std::string& leaf : leaves_) {
    for (std::string key = parent(leaf);; key = parent(key)) {
      sections_.insert(key);
      if (key.empty())
        break;
    }
  }
}

bool KeySet::is_leaf(std::string_view key) const {
  return std::find(leaves_.begin(), leaves_.end(), to_pattern(key).first) != leaves_.end();
}

bool KeySet::is_section(std::string_view key) const {
  const std::string pattern = to_pattern(key).first;
  return !is_list(key) && pattern.empty() == key.empty() && sections_.contains(pattern);
}

bool KeySet::is_list(std::string_view key) const {
  return key == kRuleList;
}

std::string KeySet::explain_unknown(std::string_view key, std::vector<std::string>& guesses) const {
  std::vector<std::string> known = leaves_;
  known.insert(known.end(), std::next(sections_.begin()), sections_.end());  // "" is the first
  const auto [pattern, index] = to_pattern(key);
  std::string text = "unknown key";
  const std::vector<std::string> similar = similar_keys(pattern, known);
  for (const std::string& guess : similar) {
    guesses.push_back(with_index(guess, index));
    text += (guess == similar.front() ? ", did you mean " : " or ") + guesses.back();
  }
  if (similar.empty()) {
    std::string siblings;
    for (const std::string& candidate : known) {
      if (parent(candidate) != parent(pattern))
        continue;
      const std::string_view word = std::string_view(candidate).substr(candidate.rfind('.') + 1);
      siblings += fmt::format("{}{}", siblings.empty() ? ", expected one of " : ", ", word);
    }
    return text + siblings;
  }
  return text + "?";
}

RecipeTree::RecipeTree(const KeySet& keys, std::string source_name, Problems& problems)
    : keys_(keys), source_(std::move(source_name)), problems_(problems) {}

void RecipeTree::add_text(std::string_view text) {
  add_node(load_mapping(text, source_), "", {source_, 1, ""});
}

void RecipeTree::apply_override(const std::string& assignment) {
  const std::size_t equals = assignment.find('=');
  const std::string key = assignment.substr(0, equals);
  const Place place{fmt::format("command line: {}", assignment), 0, key};
  if (equals == std::string::npos || key.empty()) {
    problems_.add({place.source, 0, assignment}, assignment, "expected key=value");
    return;
  }
  const std::string index = to_pattern(key).second;
  if (!index.empty() && std::stoul(index) >= list_size_) {
    problems_.add(place, key,
                  fmt::format("the recipe has {} sparsity rules, counted from 0", list_size_));
    return;
  }
  const std::string value = assignment.substr(equals + 1);
  try {
    // Only lists, mappings and quoted texts are YAML; a bare text may hold any character.
    const bool is_yaml = value.find_first_of("[{\"'") == 0;
    const YAML::Node node = is_yaml ? YAML::Load(value) : YAML::Node(value);
    if (keys_.is_leaf(key) || keys_.is_section(key) || keys_.is_list(key))
      erase(key);
    add_node(node, key, place);
  } catch (const YAML::Exception& error) {
    problems_.add(place, key, fmt::format("not YAML: {}", error.msg));
  }
}

void RecipeTree::add_node(const YAML::Node& node, const std::string& key, const Place& place) {
  if (keys_.is_leaf(key)) {
    leaves_.emplace(key, Leaf{node, place});
  } else if (keys_.is_list(key)) {
    add_list(node, key, place);
  } else if (keys_.is_section(key)) {
    add_section(node, key, place);
  } else {
    add_unknown(key, place);
  }
}

void RecipeTree::add_section(const YAML::Node& node, const std::string& key, const Place& place) {
  sections_[key] = place;
  if (!node.IsMap()) {
    problems_.add(place, key,
                  fmt::format("got {}, expected a mapping of keys", describe_node(node)));
    misspelt_.push_back(key);
    return;
  }
  std::map<std::string, int> first_line;  // yaml-cpp keeps every copy of a repeated key
  for (const auto& entry : node) {
    const Place here = at_mark(entry.first.Mark(), place);
    if (!entry.first.IsScalar()) {
      problems_.add(here, key, fmt::format("got {} as a key", describe_node(entry.first)));
      continue;
    }
    const std::string child = join(key, entry.first.Scalar());
    const auto [seen, is_new] = first_line.emplace(child, here.line);
    if (!is_new) {
      const std::string first = here.line > 0 ? fmt::format(" in line {}", seen->second) : "";
      problems_.add(here, child, fmt::format("given twice, first{}", first));
    } else if (entry.first.Scalar().find('.') != std::string::npos) {
      problems_.add(here, child, "a dotted key is for the command line; nest it in the file");
    } else {
      add_node(entry.second, child, here);
    }
  }
}

void RecipeTree::add_list(const YAML::Node& node, const std::string& key, const Place& place) {
  sections_[key] = place;
  list_size_ = 0;
  if (!node.IsSequence()) {
    problems_.add(place, key, fmt::format("got {}, expected a list of rules", describe_node(node)));
    return;
  }
  for (const YAML::Node& item : node) {
    add_node(item, fmt::format("{}.{}", key, list_size_), at_mark(item.Mark(), place));
    ++list_size_;
  }
}

void RecipeTree::add_unknown(const std::string& key, const Place& place) {
  problems_.add(place, key, keys_.explain_unknown(key, misspelt_));
}

void RecipeTree::erase(const std::string& key) {
  const auto covered = [&](const auto& entry) { return is_at_or_below(entry.first, key); };
  std::erase_if(leaves_, covered);
  std::erase_if(sections_, covered);
}

Place RecipeTree::at_mark(const YAML::Mark& mark, const Place& around) const {
  if (!around.override_key.empty())
    return around;
  return {source_, mark.line + 1, ""};
}

const RecipeTree::Leaf* RecipeTree::find(const std::string& key) const {
  const auto found = leaves_.find(key);
  return found == leaves_.end() ? nullptr : &found->second;
}

Place RecipeTree::place_of(std::string_view key) const {
  const auto leaf = leaves_.find(key);
  if (leaf != leaves_.end())
    return leaf->second.place;
  for (std::string section(key);; section = parent(section)) {
    const auto found = sections_.find(section);
    if (found != sections_.end())
      return found->second;
    if (section.empty())
      return {source_, 1, ""};
  }
}

bool RecipeTree::was_misspelt(std::string_view key) const {
  return std::any_of(misspelt_.begin(), misspelt_.end(),
                     [&](const std::string& section) { return is_at_or_below(key, section); });
}

}  // namespace hew::train
