#pragma once

#include <span>
#include <string>
#include <string_view>

namespace hew {

/// True if the whole of `text` fits `pattern`, in which `*` stands for any characters, none
/// included, and `?` for exactly one; everything else for itself. Takes O(|pattern|·|text|).
bool glob_match(std::string_view pattern, std::string_view text);

/// True if any pattern fits.
bool glob_match_any(std::span<const std::string> patterns, std::string_view text);

}  // namespace hew
