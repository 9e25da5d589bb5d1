#pragma once

#include <functional>
#include <string>
#include <vector>

#include "dist/comm.h"
#include "tests/io/scratch.h"
#include "train/evaluation.h"
#include "train/trained_model.h"
#include "train/trainer.h"

namespace hew::test {

/// Training runs small enough for tests: a byte-level GPT of two blocks on 20 kB of made-up text.
class TinyRuns {
 public:
  /// Makes the corpora in `folder`, which ranks may share: only rank 0 of `comm` writes.
  TinyRuns(const std::filesystem::path& folder, dist::Communicator& comm);

  /// The recipe as a user would write it, with run.dir under the folder, on the tests' device and
  /// there deterministic, and overrides applied.
  train::Recipe recipe(const std::string& run, const std::vector<std::string>& overrides) const;
  std::filesystem::path directory(const std::string& run) const { return folder_ / run; }

 private:
  std::filesystem::path folder_;
};

/// Runs the trainer to its end, or to `options.stop_after`.
void run_training(const train::Recipe& recipe, dist::Communicator& comm,
                  const train::TrainOptions& options, const Stream& stream);
/// The same on a new stream of the tests' device.
void run_training(const train::Recipe& recipe, dist::Communicator& comm,
                  const train::TrainOptions& options = {});

/// Losses of the steps in a run's metrics.jsonl, in order.
std::vector<double> losses_of(const std::filesystem::path& run);

/// What its mask refreshes took in seconds, in order.
std::vector<double> refreshes_of(const std::filesystem::path& run);

/// Its evaluations, in order.
std::vector<train::Evaluation> evaluations_of(const std::filesystem::path& run);

/// The first dataset, or number of the progress, in which two checkpoints differ, or "". Length of
/// the metrics is not compared, since it holds timings.
std::string first_difference(const std::filesystem::path& a, const std::filesystem::path& b);

/// Checks that the steps of `whole`, and of `halves`, the same in another directory, with a stop
/// and a resume at step `middle`, give the same checkpoints there and at the end, and the same
/// losses.
void check_resume(const train::Recipe& whole, const train::Recipe& halves, std::int64_t middle,
                  dist::Communicator& comm);

/// Writes a checkpoint of one rank's run again, changed; all else goes through load and save.
void rewrite_checkpoint(const std::filesystem::path& path,
                        const std::function<void(train::TrainedModel&)>& change);

/// Overrides that give the recipe a method: "blast", "supermask", "spartan", "rigl",
/// "magnitude", "ema".
std::vector<std::string> sparsity_overrides(const std::string& method);

}  // namespace hew::test
