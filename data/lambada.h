#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace hew {

/// A passage and the word that ends it, which people guess from the whole passage only.
struct LastWord {
  std::string passage;
  std::string word;   // with the white space in front of it
  std::string where;  // file:line
};

/// LAMBADA (Paperno et al. 2016): JSON lines with a `text` each where the file's name ends in
/// .jsonl, else a passage a line. The word follows the last space, as in lm-evaluation-harness'
/// `lambada_openai`. At most `limit` passages, 0: all. Throws DataError naming file and line.
std::vector<LastWord> read_lambada(const std::string& path, std::int64_t limit = 0);

}  // namespace hew
