#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "data/corpus_file.h"
#include "data/tokenizer.h"

namespace hew {

/// One stream of tokens from one or more files.
class TokenCorpus {
 public:
  /// Opens the files that paths and glob patterns name, in that order (a pattern's in byte order).
  /// With `vocab_size`, tokens are checked to be below it: here for HDF5, on reading for .bin.
  /// Throws DataError `<path>: <reason>`; also where shards disagree on the tokenizer.
  static TokenCorpus open(const std::vector<std::string>& patterns,
                          std::optional<std::int64_t> vocab_size = {});

  /// Tokens in all shards.
  std::int64_t size() const { return info_.tokens; }
  /// Sums over the shards, where all of them know; names and tokenizer are the first shard's.
  const CorpusInfo& info() const { return info_; }
  const std::string& path() const { return shards_.front().file->path(); }
  /// Tokens [begin, begin + out.size()), across shards. Thread-safe. Throws DataError that names
  /// file and position for a token outside the vocabulary.
  void read(std::int64_t begin, std::span<std::int32_t> out) const;

  /// The tokenizer stored with the tokens; null where none is.
  std::unique_ptr<Tokenizer> tokenizer() const;
  /// Throws DataError unless the corpus was made with the tokenizer of this hash, or does not know.
  void require_tokenizer(const std::string& sha256) const;
  /// SHA-256, in hex, of how many tokens there are and of 64 stretches of them, which lie evenly:
  /// what tells one corpus from another without reading all of it.
  std::string digest() const;
  /// Throws DataError if there are fewer tokens than one window of `context` needs with its target.
  void require_windows(std::int64_t context) const;

 private:
  struct Shard {
    std::shared_ptr<const CorpusFile> file;
    std::int64_t begin = 0;  // tokens in the shards before this one
  };
  explicit TokenCorpus(std::optional<std::int64_t> vocab_size) : vocab_size_(vocab_size) {}
  void add(const std::shared_ptr<const CorpusFile>& file);
  void read_checked(const CorpusFile& file, std::int64_t begin, std::span<std::int32_t> out) const;

  std::vector<Shard> shards_;
  CorpusInfo info_;
  std::optional<std::int64_t> vocab_size_;
};

}  // namespace hew
