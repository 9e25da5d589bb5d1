#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace hew {

/// An article, and the size that it had before detokenize_wikitext().
struct WikitextArticle {
  std::string text;
  std::int64_t words = 0;  // separated by white space
  std::int64_t bytes = 0;
};

/// Takes back what WikiText's tokenizer did: numbers (`1 @,@ 000`), spaces around punctuation and
/// inside brackets and quotes, headings (`= = History = =`). The rules, in their order, are those
/// of lm-evaluation-harness' `wikitext`, of which white space counts where it is ASCII.
std::string detokenize_wikitext(std::string_view article);

/// WikiText (Merity et al. 2016), word-level or raw: articles begin at headings of the first level,
/// ` = Title = `. At most `limit` of them, 0: all. Throws DataError naming the file, and the line
/// that is not UTF-8.
std::vector<WikitextArticle> read_wikitext(const std::string& path, std::int64_t limit = 0);

}  // namespace hew
