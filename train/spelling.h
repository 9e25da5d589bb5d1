#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace hew::train {

/// Insertions, deletions, substitutions and swaps of neighbours that turn `a` into `b` (optimal
/// string alignment).
int edit_distance(std::string_view a, std::string_view b);

/// The dotted keys that `key` was probably meant to be, at most two, best first: close in spelling,
/// or the same last word in another section. Empty if nothing is near.
std::vector<std::string> similar_keys(std::string_view key, const std::vector<std::string>& known);

}  // namespace hew::train
