#include "train/recipe_problems.h"

#include <algorithm>
#include <limits>

#include "core/error.h"

namespace hew::train {

std::string origin_of(const Place& place, std::string_view key) {
  std::string text = place.source;
  if (place.line > 0)
    text += fmt::format(":{}", place.line);
  if (!key.empty() && (place.override_key.empty() || key != place.override_key))
    text += fmt::format(": {}", key);
  return text;
}

void Problems::add(const Place& place, std::string_view key, std::string_view what) {
  const bool in_file = place.override_key.empty();
  std::string text = origin_of(place, key);
  text += fmt::format(": {}", what);
  // A value may hold any character; a problem is one line.
  std::ranges::replace_if(
      text, [](char c) { return static_cast<unsigned char>(c) < ' '; }, ' ');
  problems_.push_back({in_file ? place.line : std::numeric_limits<int>::max(), std::move(text)});
}

void Problems::throw_if_any() const {
  if (problems_.empty())
    return;
  std::vector<Problem> sorted = problems_;
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const Problem& a, const Problem& b) { return a.line < b.line; });
  std::string text;
  for (const Problem& problem : sorted) {
    if (!text.empty())
      text += '\n';
    text += problem.text;
  }
  throw ConfigError(text);
}

}  // namespace hew::train
