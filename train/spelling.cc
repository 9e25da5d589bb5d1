#include "train/spelling.h"

#include <algorithm>
#include <numeric>

namespace hew::train {
namespace {

std::string_view last_word(std::string_view key) {
  return key.substr(key.rfind('.') + 1);
}

// Farther than any accepted guess.
constexpr int kFar = 1000;

// Two points an edit; the very word in another section is worse than one edit, better than two.
int guess_cost(std::string_view key, std::string_view candidate) {
  const std::string_view word = last_word(key);
  const int allowed = std::max(1, static_cast<int>(word.size()) / 3);
  const int edits = edit_distance(key, candidate);
  constexpr int kElsewhere = 3;
  const int elsewhere = word == last_word(candidate) ? kElsewhere : kFar;
  const bool is_near = edits <= allowed && edits < static_cast<int>(word.size());
  return is_near ? std::min(2 * edits, elsewhere) : elsewhere;
}

}  // namespace

int edit_distance(std::string_view a, std::string_view b) {
  const std::size_t n = b.size();
  std::vector<int> before(n + 1);  // distances of a's prefix two shorter, one shorter, this one
  std::vector<int> above(n + 1);
  std::vector<int> row(n + 1);
  std::iota(row.begin(), row.end(), 0);
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::swap(before, above);
    std::swap(above, row);
    row[0] = static_cast<int>(i);
    for (std::size_t j = 1; j <= n; ++j) {
      const int substituted = above[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({above[j] + 1, row[j - 1] + 1, substituted});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped)
        row[j] = std::min(row[j], before[j - 2] + 1);
    }
  }
  return row[n];
}

std::vector<std::string> similar_keys(std::string_view key, const std::vector<std::string>& known) {
  constexpr std::size_t kMost = 2;
  int best = kFar;
  std::vector<std::string> found;
  for (const std::string& candidate : known) {
    const int cost = guess_cost(key, candidate);
    if (cost < best) {
      best = cost;
      found.clear();
    }
    if (cost == best && cost < kFar && found.size() < kMost)
      found.push_back(candidate);
  }
  return found;
}

}  // namespace hew::train
