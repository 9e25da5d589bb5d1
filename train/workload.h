#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "autograd/forward_context.h"
#include "dist/comm.h"
#include "layers/model.h"
#include "train/data_record.h"
#include "train/recipe.h"

namespace hew::train {

/// Samples that a rank computes at a time.
struct MicroBatch {
  std::int64_t first_sample = 0;  // index in the endless order of training samples
  /// scale · mean loss over the samples; a scalar. The model is that of Workload::next().
  std::function<ag::Variable(double scale, ag::ForwardContext& context)> loss;
};

/// What an evaluation has to say.
struct EvaluationReport {
  std::string text;                // one line
  nlohmann::ordered_json numbers;  // "loss", and what goes with it
};

/// What a run learns and what it is measured on: the data that a recipe names, and the loss on
/// them. One implementation a kind of data; whoever trains does not know which it has.
class Workload {
 public:
  Workload() = default;
  Workload(const Workload&) = delete;
  Workload& operator=(const Workload&) = delete;
  virtual ~Workload() = default;

  /// Of the training data, for checkpoints.
  virtual const DataRecord& record() const = 0;
  /// Throws DataError unless a model trained on what `saved` describes can go on with these data.
  virtual void require_record(const DataRecord& saved) const = 0;

  /// Training goes on behind the first `position` samples of the order that `seed` gives.
  virtual void start(std::uint64_t seed, std::int64_t position) = 0;
  /// This rank's part of the next step. The model must outlive the losses; it is of the recipe's
  /// family. Throws what reading the samples threw.
  virtual std::vector<MicroBatch> next(const layers::Model& model) = 0;
  /// Samples that all ranks have consumed.
  virtual std::int64_t position() const = 0;

  /// Whether the recipe names data to evaluate on.
  virtual bool evaluates() const = 0;
  /// The model on these data, split over the ranks; every rank gets the same report. Before every
  /// batch, as often on all ranks, calls `before_batch`, whose exceptions end it. Collective.
  virtual EvaluationReport evaluate(const layers::Model& model,
                                    const std::function<void()>& before_batch) const = 0;
};

/// What a training step gets through, for the log.
struct StepWork {
  std::string_view unit;    // "tokens" or "images"
  std::int64_t amount = 0;  // over all ranks
};
StepWork step_work(const Recipe& recipe);

/// Throws ConfigError where the samples of one rank's step are alone more than this machine's
/// memory.
void require_batch_fits(const Recipe& recipe, int ranks);

/// Opens and checks all that the recipe's data keys name, and fills in what the recipe leaves to
/// the data: model.vocab or model.classes. `comm` must outlive the workload. Throws ConfigError,
/// DataError.
std::unique_ptr<Workload> open_workload(Recipe& recipe, dist::Communicator& comm,
                                        const Stream& stream);

/// Fills in what the recipe's model leaves to the data, reading no more than that takes. Throws
/// ConfigError, DataError.
void complete_model(Recipe& recipe);

}  // namespace hew::train
