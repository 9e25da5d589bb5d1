#pragma once

#include <memory>
#include <vector>

#include "data/loader.h"
#include "train/evaluation.h"
#include "train/workload.h"

namespace hew::train {

/// Windows of token corpora, and the mean cross entropy of their next tokens.
class TextWorkload final : public Workload {
 public:
  /// Fills in recipe.model.vocab. `comm` must outlive the workload. Throws ConfigError, DataError,
  /// also where a corpus is shorter than a window or was made with another tokenizer.
  TextWorkload(Recipe& recipe, dist::Communicator& comm, const Stream& stream);

  const DataRecord& record() const override { return record_; }
  void require_record(const DataRecord& saved) const override;
  void start(std::uint64_t seed, std::int64_t position) override;
  std::vector<MicroBatch> next(const layers::Model& model) override;
  std::int64_t position() const override { return loader_->position(); }
  bool evaluates() const override { return valid_ != nullptr; }
  EvaluationReport evaluate(const layers::Model& model,
                            const std::function<void()>& before_batch) const override;

 private:
  dist::Communicator& comm_;
  Stream stream_;
  std::int64_t batch_;  // sequences a step
  EvaluationSize evaluation_;
  std::shared_ptr<const TokenCorpus> train_;
  std::shared_ptr<const TokenCorpus> valid_;  // null without one
  std::shared_ptr<const TokenDataset> dataset_;
  DataRecord record_;
  std::unique_ptr<BatchLoader> loader_;  // null before start()
};

/// The corpora of one key of a recipe; null where it names none. With `vocab` > 0 every token must
/// be below it. Throws DataError.
std::shared_ptr<const TokenCorpus> open_corpus(const std::vector<std::string>& patterns,
                                               std::int64_t vocab);

/// The vocabulary a recipe's model has over this corpus: the recipe's where it says, else the
/// corpus's. Throws ConfigError where neither knows, or the recipe's is the smaller one.
std::int64_t resolve_vocab(const Recipe& recipe, const CorpusInfo& corpus);

}  // namespace hew::train
