#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "data/corpus_file.h"
#include "data/tokenizer.h"
#include "io/hdf5.h"

namespace hew {

/// Writes a sealed HDF5 corpus (docs/data.md), holding little more of it in memory than the text of
/// one encoding. Nothing is left of it without commit(). Throws DataError naming the file.
class CorpusWriter {
 public:
  /// Keeps a reference to the tokenizer.
  CorpusWriter(const std::string& path, const Tokenizer& tokenizer);
  CorpusWriter(const std::string& path, Tokenizer&& tokenizer) = delete;

  /// Goes on with the open document, or begins one.
  void add_text(std::string_view text);
  /// Ends the open document with the tokenizer's end of text, if it has one. Without text since the
  /// last end there is no document to end.
  void end_document();
  /// What is written so far.
  const CorpusInfo& info() const { return info_; }
  /// Ends the open document and puts the file in its place. Throws DataError if it holds nothing.
  void commit();

 private:
  void encode(std::string_view text);
  void add_token(std::int32_t token);
  void flush_tokens();

  H5Writer file_;
  const Tokenizer& tokenizer_;
  CorpusInfo info_;
  std::string path_;
  std::string text_;  // of the open document, not encoded yet
  // A long document is encoded in stretches of about so many bytes, so that it need not fit into
  // memory with all that an encoder builds for it.
  static constexpr std::size_t kStretchBytes = std::size_t{1} << 16U;
  std::size_t stretch_ = kStretchBytes;
  bool document_open_ = false;
  std::vector<std::int32_t> tokens_;  // not written yet
};

}  // namespace hew
