#include "data/token_dataset.h"

#include <algorithm>
#include <cassert>

#include "core/error.h"
#include "core/rng.h"
#include "data/shuffle.h"

namespace hew {

TokenDataset::TokenDataset(std::shared_ptr<const TokenCorpus> corpus, std::int64_t context)
    : corpus_(std::move(corpus)), context_(context) {
  require<ConfigError>(context_ > 0, "[dataset] context {}, expected at least 1", context_);
  corpus_->require_windows(context_);
}

void TokenDataset::window(std::int64_t index, std::span<std::int32_t> out) const {
  assert(index >= 0 && index < windows() && std::ssize(out) == context_ + 1);
  corpus_->read(index * context_, out);
}

std::int64_t TokenDataset::epoch_samples() const {
  return std::max<std::int64_t>(1, corpus_->size() / context_ - 1);
}

void TokenDataset::sample(std::uint64_t seed, std::int64_t position,
                          std::span<std::int32_t> out) const {
  assert(position >= 0 && std::ssize(out) == context_ + 1);
  constexpr std::uint64_t kStream = 0x4f464653ULL << 32U;  // of its own among a seed's streams
  const std::int64_t samples = epoch_samples();
  const std::int64_t epoch = position / samples;
  const std::int64_t offsets = std::min(context_, corpus_->size() - samples * context_);
  const auto offset = static_cast<std::int64_t>(uniform_below(
      seed, kStream, static_cast<std::uint64_t>(epoch), static_cast<std::uint64_t>(offsets)));
  corpus_->read(offset + shuffled(seed, epoch, samples, position % samples) * context_, out);
}

}  // namespace hew
