#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace hew {

/// Two sentences that differ in grammaticality alone.
struct MinimalPair {
  std::string good;
  std::string bad;
};

struct Phenomenon {
  std::string name;  // the file's, without .jsonl
  std::vector<MinimalPair> pairs;
};

/// BLiMP (Warstadt et al. 2020): a folder's .jsonl files in byte order of their names, or one such
/// file; a pair a line, `sentence_good` and `sentence_bad`. At most `limit` pairs of each file, 0:
/// all. Throws DataError naming file and line.
std::vector<Phenomenon> read_blimp(const std::string& path, std::int64_t limit = 0);

}  // namespace hew
