#include "data/bpe_tokenizer.h"

#include <queue>
#include <tuple>

#include "core/error.h"

namespace hew {
namespace {

constexpr std::size_t kBytes = 256;

std::uint64_t key_of(std::int32_t left, std::int32_t right) {
  return (static_cast<std::uint64_t>(left) << 32U) | static_cast<std::uint32_t>(right);
}

/// A stretch of a word that is one token by now; links to its neighbours, -1 at the ends.
struct Symbol {
  std::int32_t token;
  std::int32_t previous;
  std::int32_t next;
};

/// Two neighbours that may join, if they are still what they were when this was queued.
struct Candidate {
  std::int32_t rank;
  std::int32_t left;  // index of a symbol
  std::int32_t left_token;
  std::int32_t right_token;
  std::int32_t token;

  bool operator<(const Candidate& other) const {  // the top of the queue joins first
    return std::tie(other.rank, other.left) < std::tie(rank, left);
  }
};

}  // namespace

BpeTokenizer::BpeTokenizer(BpeVocabulary vocabulary) : vocabulary_(std::move(vocabulary)) {
  std::unordered_map<std::string_view, std::int32_t> token_of;
  for (std::size_t i = 0; i < vocabulary_.pieces.size(); ++i) {
    token_of.emplace(vocabulary_.pieces[i], static_cast<std::int32_t>(i));
  }
  for (std::size_t i = 0; i < kBytes; ++i) {
    const auto found = token_of.find(std::string(1, static_cast<char>(i)));
    require<DataError>(found != token_of.end(), "[gpt2] the vocabulary lacks byte {}", i);
    token_of_byte_.push_back(found->second);
  }
  std::int32_t rank = 0;
  for (const auto& [left, right] : vocabulary_.merges) {
    const auto found = token_of.find(std::string(piece(left)).append(piece(right)));
    require<DataError>(found != token_of.end(), "[gpt2] merge {} gives no token", rank);
    merge_.emplace(key_of(left, right), Merge{rank, found->second});
    ++rank;
  }
  if (vocabulary_.end_of_text)
    check_token(*vocabulary_.end_of_text);
}

std::string_view BpeTokenizer::piece(std::int32_t token) const {
  check_token(token);
  return vocabulary_.pieces[static_cast<std::size_t>(token)];
}

std::vector<std::int32_t> BpeTokenizer::encode(std::string_view text) const {
  std::vector<std::int32_t> tokens;
  splitter_.split(text, [&](std::string_view word) { encode_word(word, tokens); });
  return tokens;
}

const BpeTokenizer::Merge* BpeTokenizer::find_merge(std::int32_t left, std::int32_t right) const {
  const auto found = merge_.find(key_of(left, right));
  return found == merge_.end() ? nullptr : &found->second;
}

void BpeTokenizer::encode_word(std::string_view word, std::vector<std::int32_t>& out) const {
  std::vector<Symbol> symbols(word.size());
  const auto at = [&](std::int32_t i) -> Symbol& { return symbols[static_cast<std::size_t>(i)]; };
  const auto count = static_cast<std::int32_t>(word.size());
  for (std::int32_t i = 0; i < count; ++i) {
    const auto byte = static_cast<unsigned char>(word[static_cast<std::size_t>(i)]);
    at(i) = {token_of_byte_[byte], i - 1, i + 1 < count ? i + 1 : -1};
  }
  std::priority_queue<Candidate> candidates;
  const auto consider = [&](std::int32_t left) {
    if (left < 0 || at(left).next < 0)
      return;
    const std::int32_t right_token = at(at(left).next).token;
    const Merge* merge = find_merge(at(left).token, right_token);
    if (merge == nullptr)
      return;
    candidates.push({merge->rank, left, at(left).token, right_token, merge->token});
  };
  for (std::int32_t i = 0; i + 1 < count; ++i) consider(i);
  constexpr std::int32_t kGone = -1;
  while (!candidates.empty()) {
    const Candidate best = candidates.top();
    candidates.pop();
    Symbol& left = at(best.left);
    if (left.token != best.left_token || left.next < 0)
      continue;
    Symbol& right = at(left.next);
    if (right.token != best.right_token)
      continue;
    left.token = best.token;
    right.token = kGone;
    left.next = right.next;
    if (left.next >= 0)
      at(left.next).previous = best.left;
    consider(left.previous);
    consider(best.left);
  }
  for (std::int32_t i = count == 0 ? -1 : 0; i >= 0; i = at(i).next) out.push_back(at(i).token);
}

}  // namespace hew
