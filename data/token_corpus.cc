#include "data/token_corpus.h"

#include <algorithm>
#include <limits>

#include "core/error.h"
#include "data/path_pattern.h"
#include "io/sha256.h"

namespace hew {
namespace {

std::optional<std::int64_t> sum(std::optional<std::int64_t> a, std::optional<std::int64_t> b) {
  if (!a || !b)
    return std::nullopt;
  return *a + *b;
}

std::optional<std::int64_t> larger(std::optional<std::int64_t> a, std::optional<std::int64_t> b) {
  if (!a || !b)
    return std::nullopt;
  return std::max(*a, *b);
}

}  // namespace

TokenCorpus TokenCorpus::open(const std::vector<std::string>& patterns,
                              std::optional<std::int64_t> vocab_size) {
  require<DataError>(!patterns.empty(), "[corpus] no file is named");
  TokenCorpus corpus(vocab_size);
  for (const std::string& pattern : patterns) {
    for (const std::string& path : expand_pattern(pattern)) corpus.add(open_corpus_file(path));
  }
  return corpus;
}

void TokenCorpus::add(const std::shared_ptr<const CorpusFile>& file) {
  const CorpusInfo& info = file->info();
  if (shards_.empty()) {
    info_ = info;
    shards_.push_back({file, 0});
  } else {
    require<DataError>(info.tokenizer_sha256 == info_.tokenizer_sha256,
                       "{}: made with another tokenizer than {}", file->path(), path());
    shards_.push_back({file, info_.tokens});
    info_.tokens += info.tokens;
    info_.bytes = sum(info_.bytes, info.bytes);
    info_.documents = sum(info_.documents, info.documents);
    info_.largest_token = larger(info_.largest_token, info.largest_token);
  }
  if (!vocab_size_ || !info.largest_token || *info.largest_token < *vocab_size_)
    return;
  std::vector<std::int32_t> tokens(std::size_t{1} << 20U);
  for (std::int64_t begin = 0; begin < info.tokens; begin += std::ssize(tokens)) {
    const auto count = std::min(std::ssize(tokens), info.tokens - begin);
    read_checked(*file, begin, std::span(tokens).first(static_cast<std::size_t>(count)));
  }
}

void TokenCorpus::read(std::int64_t begin, std::span<std::int32_t> out) const {
  require<DataError>(begin >= 0 && begin + std::ssize(out) <= size(),
                     "{}: tokens {} to {} are outside its {}", path(), begin,
                     begin + std::ssize(out), size());
  auto shard = std::upper_bound(shards_.begin(), shards_.end(), begin,
                                [](std::int64_t at, const Shard& s) { return at < s.begin; });
  for (--shard; !out.empty(); ++shard) {
    const std::int64_t inside = begin - shard->begin;
    const auto count =
        static_cast<std::size_t>(std::min(std::ssize(out), shard->file->info().tokens - inside));
    read_checked(*shard->file, inside, out.first(count));
    begin += static_cast<std::int64_t>(count);
    out = out.subspan(count);
  }
}

void TokenCorpus::read_checked(const CorpusFile& file, std::int64_t begin,
                               std::span<std::int32_t> out) const {
  file.read(begin, out);
  const std::int64_t limit = vocab_size_.value_or(std::numeric_limits<std::int32_t>::max());
  const auto bad = std::find_if(out.begin(), out.end(),
                                [&](std::int32_t token) { return token < 0 || token >= limit; });
  if (bad == out.end())
    return;
  throw DataError(fmt::format("{}: token {} at position {} is outside the vocabulary of {}",
                              file.path(), static_cast<std::uint32_t>(*bad),
                              begin + (bad - out.begin()), limit));
}

std::unique_ptr<Tokenizer> TokenCorpus::tokenizer() const {
  if (info_.tokenizer_kind.empty())
    return nullptr;
  return make_tokenizer(info_.tokenizer_kind, info_.tokenizer_blob, path());
}

void TokenCorpus::require_tokenizer(const std::string& sha256) const {
  require<DataError>(info_.tokenizer_sha256.empty() || info_.tokenizer_sha256 == sha256,
                     "{}: made with tokenizer {} {:.12}, the model's is {:.12}", path(),
                     info_.tokenizer_kind, info_.tokenizer_sha256, sha256);
}

std::string TokenCorpus::digest() const {
  constexpr std::int64_t kStretches = 64;
  constexpr std::int64_t kLongest = 1024;  // tokens
  const std::int64_t length = std::min(size(), kLongest);
  const std::int64_t last = size() - length;  // where the last one begins
  Sha256 sha;
  const std::string count = std::to_string(size());
  sha.update(std::as_bytes(std::span(count)));
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(length));
  for (std::int64_t i = 0; i < kStretches; ++i) {
    read(last * i / (kStretches - 1), tokens);
    sha.update(std::as_bytes(std::span(tokens)));
  }
  return sha.hex();
}

void TokenCorpus::require_windows(std::int64_t context) const {
  require<DataError>(size() > context, "{}: {} tokens, one window needs {}", path(), size(),
                     context + 1);
}

}  // namespace hew
