#include "data/corpus_writer.h"

#include <algorithm>
#include <array>
#include <limits>

#include "core/error.h"

namespace hew {
namespace {

constexpr std::size_t kFlushTokens = std::size_t{1} << 16U;  // a chunk of the dataset

bool is_space(char c) {
  return c == ' ' || (c >= '\t' && c <= '\r');
}

bool ends_in_space(std::string_view text) {
  constexpr std::array<std::string_view, 19> kWide = {
      "\u0085", "\u00a0", "\u1680", "\u2000", "\u2001", "\u2002", "\u2003",
      "\u2004", "\u2005", "\u2006", "\u2007", "\u2008", "\u2009", "\u200a",
      "\u2028", "\u2029", "\u202f", "\u205f", "\u3000"};
  return is_space(text.back()) ||
         std::ranges::any_of(kWide, [&](std::string_view space) { return text.ends_with(space); });
}

/// Where `text` can be cut and give the same tokens: in front of its last spaces, because no GPT-2
/// word and no SentencePiece piece goes on across their first. 0 if nowhere.
std::size_t last_cut(std::string_view text) {
  for (std::size_t i = text.size() - 1; i > 0; --i) {
    if (is_space(text[i]) && !ends_in_space(text.substr(0, i)))
      return i;
  }
  return 0;
}

}  // namespace

CorpusWriter::CorpusWriter(const std::string& path, const Tokenizer& tokenizer)
    : file_(path, kCorpusKind, kCorpusVersion), tokenizer_(tokenizer), path_(path) {
  const std::string blob = tokenizer.serialized();
  info_ = {.format = "hew-h5",
           .tokens = 0,
           .vocab_size = tokenizer.vocab_size(),
           .largest_token = 0,
           .bytes = 0,
           .documents = 0,
           .tokenizer_kind = std::string(tokenizer.kind()),
           .tokenizer_sha256 = tokenizer.sha256(),
           .tokenizer_blob = {}};
  file_.write("tokenizer", std::vector<std::uint8_t>(blob.begin(), blob.end()));
}

void CorpusWriter::add_text(std::string_view text) {
  if (text.empty())
    return;
  document_open_ = true;
  text_ += text;
  if (text_.size() < stretch_)
    return;
  const std::size_t cut = last_cut(text_);
  stretch_ = cut > 0 ? kStretchBytes : 2 * text_.size();  // so that looking for one stays cheap
  encode(std::string_view(text_).substr(0, cut));
  text_.erase(0, cut);
}

void CorpusWriter::end_document() {
  if (!document_open_)
    return;
  encode(text_);
  text_.clear();
  document_open_ = false;
  if (tokenizer_.end_of_text())
    add_token(*tokenizer_.end_of_text());
  ++*info_.documents;
}

void CorpusWriter::encode(std::string_view text) {
  *info_.bytes += static_cast<std::int64_t>(text.size());
  for (const std::int32_t token : tokenizer_.encode(text)) add_token(token);
}

void CorpusWriter::add_token(std::int32_t token) {
  info_.largest_token = std::max<std::int64_t>(*info_.largest_token, token);
  ++info_.tokens;
  tokens_.push_back(token);
  if (tokens_.size() == kFlushTokens)
    flush_tokens();
}

void CorpusWriter::flush_tokens() {
  if (*info_.vocab_size <= std::int64_t{std::numeric_limits<std::uint16_t>::max()} + 1) {
    const std::vector<std::uint16_t> narrow(tokens_.begin(), tokens_.end());
    file_.append("tokens", std::span(narrow));
  } else {
    file_.append("tokens", std::span<const std::int32_t>(tokens_));
  }
  tokens_.clear();
}

void CorpusWriter::commit() {
  end_document();
  flush_tokens();
  require<DataError>(info_.tokens > 0, "{}: not written, there is no text to put into it", path_);
  file_.attribute("/", "vocab_size", *info_.vocab_size);
  file_.attribute("/", "largest_token", *info_.largest_token);
  file_.attribute("/", "bytes", *info_.bytes);
  file_.attribute("/", "documents", *info_.documents);
  file_.attribute("/", "tokenizer_kind", info_.tokenizer_kind);
  file_.attribute("/", "tokenizer_sha256", info_.tokenizer_sha256);
  file_.commit();
}

}  // namespace hew
