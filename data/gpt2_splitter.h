#pragma once

#include <functional>
#include <memory>
#include <string_view>

namespace hew {

/// Cuts text into the words that GPT-2 merges within (Radford et al. 2019): contractions, and runs
/// of letters, of digits or of other signs with at most one space in front, and spaces.
class Gpt2Splitter {
 public:
  Gpt2Splitter();

  /// Calls `word` with each word in order; together they are the text. Throws DataError for text
  /// that is not UTF-8.
  void split(std::string_view text, const std::function<void(std::string_view)>& word) const;

 private:
  std::shared_ptr<const void> pattern_;
};

}  // namespace hew
