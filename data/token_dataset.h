#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "data/token_corpus.h"

namespace hew {

/// A corpus cut into windows of `context` + 1 tokens; neighbours share one token, the last target
/// of the one and the first input of the other.
class TokenDataset {
 public:
  /// Throws DataError naming the file where the corpus is shorter than one window.
  TokenDataset(std::shared_ptr<const TokenCorpus> corpus, std::int64_t context);

  std::int64_t context() const { return context_; }
  const TokenCorpus& corpus() const { return *corpus_; }

  /// Windows of one pass in reading order, the tail of the corpus dropped: ⌊(size − 1) / context⌋.
  std::int64_t windows() const { return (corpus_->size() - 1) / context_; }
  /// Fills `out` [context + 1] with the tokens from `index` · context on. Thread-safe.
  void window(std::int64_t index, std::span<std::int32_t> out) const;

  /// Samples of a training epoch. One window fewer than fits, if there is more than one, so that
  /// every epoch can start at an offset of its own in [0, context) and cut other windows.
  std::int64_t epoch_samples() const;
  /// Fills `out` [context + 1] with the training sample at `position` ≥ 0 of the endless sequence
  /// of epochs: window shuffled(seed, epoch, …) behind that epoch's offset. The tokens depend on
  /// (seed, position) alone. Thread-safe.
  void sample(std::uint64_t seed, std::int64_t position, std::span<std::int32_t> out) const;

 private:
  std::shared_ptr<const TokenCorpus> corpus_;
  std::int64_t context_;
};

}  // namespace hew
