#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

namespace hew {

/// The `kind` and layout version of a sealed HDF5 corpus (docs/data.md).
inline constexpr const char* kCorpusKind = "corpus";
inline constexpr int kCorpusVersion = 1;

/// What a corpus says about itself. The .bin formats say little.
struct CorpusInfo {
  std::string format;  // "hew-h5", "llm.c" or "nanogpt"
  std::int64_t tokens = 0;
  std::optional<std::int64_t> vocab_size = {};
  std::optional<std::int64_t> largest_token = {};
  std::optional<std::int64_t> bytes = {};  // of UTF-8 text that the tokens stand for
  std::optional<std::int64_t> documents = {};
  std::string tokenizer_kind = {};    // Tokenizer::kind; empty where it is not known
  std::string tokenizer_sha256 = {};  // Tokenizer::sha256
  std::string tokenizer_blob = {};    // Tokenizer::serialized
};

/// One file of tokens, read in place.
class CorpusFile {
 public:
  CorpusFile(std::string path, CorpusInfo info) : path_(std::move(path)), info_(std::move(info)) {}
  CorpusFile(const CorpusFile&) = delete;
  CorpusFile& operator=(const CorpusFile&) = delete;
  virtual ~CorpusFile() = default;

  const std::string& path() const { return path_; }
  const CorpusInfo& info() const { return info_; }
  /// Tokens [begin, begin + out.size()). Thread-safe. Throws DataError `<path>: <reason>`.
  virtual void read(std::int64_t begin, std::span<std::int32_t> out) const = 0;

 private:
  std::string path_;
  CorpusInfo info_;
};

/// Opens a sealed HDF5 corpus, or an llm.c or nanoGPT .bin, told apart by their first bytes. Throws
/// DataError `<path>: <reason>`.
std::unique_ptr<CorpusFile> open_corpus_file(const std::string& path);

}  // namespace hew
