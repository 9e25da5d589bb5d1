#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "sparsity/sparsifier.h"
#include "train/checkpoint.h"
#include "train/metrics.h"
#include "train/recipe.h"
#include "train/run_directory.h"
#include "train/step_outcomes.h"
#include "train/workload.h"

namespace hew::train {

/// What the log says of a step beside its time.
struct StepRecord {
  const Recipe& recipe;
  const Progress& progress;
  const KnownOutcome& outcome;
  double sparsity = 0;               // of the weights under a rule, now
  std::int64_t bytes_reduced = 0;    // over the network, so far
  std::int64_t optimizer_bytes = 0;  // of rank 0, now
};

/// What it says of a mask refresh beside the masks.
struct RefreshRecord {
  std::int64_t step = 0;  // from 0
  double seconds = 0;     // from the end of backward to the last block moved
};

/// Where the record of the evaluation after `steps` steps ends in a run's metrics, if it is among
/// their first `bytes` or the next one: a checkpoint that holds this length is written just before.
std::optional<std::int64_t> end_of_evaluation(const std::filesystem::path& metrics,
                                              std::int64_t steps, std::int64_t bytes);

/// What rank 0 tells of a run as it goes on: on the console and in the run's log and metrics.jsonl.
class RunLog {
 public:
  using Clock = std::chrono::steady_clock;

  RunLog() = default;  // silent: other ranks
  /// Goes on after `metrics_bytes` of metrics.jsonl. Throws DataError.
  RunLog(const RunDirectory& directory, std::int64_t metrics_bytes);

  /// The time of the steps after `steps` begins.
  void begin(std::int64_t steps);
  /// What has been done since `start` is not the steps' time.
  void leave_out(Clock::time_point start) { since_ += Clock::now() - start; }

  void say(const std::string& text) { console_.say(text); }
  /// A progress line; with `milestone` it is kept, a record is written, and the time begins anew.
  void step(const StepRecord& record, bool milestone);
  /// Live blocks after a refresh.
  void refresh(const sparsity::Sparsifier& sparsifier, const RefreshRecord& record);
  void evaluation(const EvaluationReport& report, std::int64_t steps);
  /// Leaves the line that overwrites itself, if there is one.
  void end_live_line() { console_.end_live_line(); }

  /// Length of metrics.jsonl; 0 where silent.
  std::int64_t metrics_bytes() const { return metrics_ ? metrics_->bytes() : 0; }

 private:
  Console console_;
  std::unique_ptr<MetricsFile> metrics_;  // null where silent
  Clock::time_point since_;
  std::int64_t since_step_ = 0;
};

}  // namespace hew::train
