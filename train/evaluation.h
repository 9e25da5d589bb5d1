#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "data/loader.h"
#include "dist/comm.h"
#include "layers/language_model.h"

namespace hew::train {

/// What a model makes of a held-out corpus.
struct Evaluation {
  double loss = 0;  // mean over tokens, nats
  std::int64_t tokens = 0;
  std::optional<double> bits_per_byte;  // where the corpus knows its bytes

  double perplexity() const;
};

/// "loss 1.2345 nats/token  perplexity 3.437  1.7810 bits/byte  (12345 tokens)"
std::string to_string(const Evaluation& evaluation);
/// Its members, and the perplexity, by their names.
nlohmann::ordered_json numbers_of(const Evaluation& evaluation);

struct EvaluationSize {
  std::int64_t batch = 1;           // windows computed at a time on each rank
  std::int64_t max_windows = 0;     // at most so many over all ranks; 0: the whole corpus
  std::optional<DType> dtype = {};  // of activations; that of the weights if not given
  // Called before every batch, as often on all ranks; what it throws ends the evaluation.
  std::function<void()> before_batch = {};
};

/// Mean cross-entropy over the corpus's windows in reading order, split over the ranks; every rank
/// gets the same result. bits/byte = loss/ln 2 · tokens of the corpus / bytes of the corpus.
Evaluation evaluate(const layers::LanguageModel& model,
                    const std::shared_ptr<const TokenCorpus>& corpus, const EvaluationSize& size,
                    dist::Communicator& comm, const Stream& stream);

}  // namespace hew::train
