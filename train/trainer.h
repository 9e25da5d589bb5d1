#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/cuda_device.h"
#include "dist/comm.h"
#include "dist/reducer.h"
#include "layers/model.h"
#include "optim/weight_average.h"
#include "sparsity/sparsifier.h"
#include "train/checkpoint.h"
#include "train/flops.h"
#include "train/model_setup.h"
#include "train/rank_optimizer.h"
#include "train/recipe.h"
#include "train/run_directory.h"
#include "train/run_log.h"
#include "train/step_outcomes.h"
#include "train/step_profile.h"
#include "train/stop_signal.h"
#include "train/workload.h"

namespace hew::train {

struct TrainOptions {
  bool resume = false;
  std::optional<std::int64_t> stop_after = {};  // leave with a checkpoint after so many steps
  StepRange profile = {};                       // of these, a table of time by operation is printed
};

/// One training run on this rank: model, sparsity, optimizer and data, from the recipe or from the
/// newest whole checkpoint of the run directory.
class Trainer {
 public:
  /// Opens the data, builds the model and, to resume, loads the newest checkpoint that is whole
  /// (a broken one is reported and the one before it used). Throws before anything is written if
  /// something does not fit. `comm` and `stop_signal` must outlive the trainer.
  Trainer(const Recipe& recipe, const TrainOptions& options, dist::Communicator& comm,
          const StopSignal& stop_signal, const Stream& stream);

  /// Runs to the recipe's last step, to stop_after, or until a stop signal, which also breaks off
  /// an evaluation; leaves with a checkpoint, of the untrained model where stop_after is 0. After
  /// a resume, makes up for the evaluation that the checkpoint's step was to have. Throws
  /// Error, naming step and parameter, when loss or gradients are no longer finite: checkpoints
  /// before that step stay.
  void run();

  const Progress& progress() const { return progress_; }

 private:
  // Both return what there is to say once the log is open.
  std::vector<std::string> start();
  std::vector<std::string> resume();
  // Throws where the model cannot fit from this step on. Collective.
  void require_memory();
  // Throws where a signal has come before there is anything to keep.
  void give_up_if_told() const;
  // Whether metrics.jsonl has the evaluation of the step that is resumed from: it stays there.
  bool keep_evaluation();
  void open_directory(const std::vector<std::string>& news);
  // Whether a stop signal has come to any rank. Collective.
  bool told_to_stop();
  // Returns whether the run is to stop.
  bool train_step();
  ag::BackwardHooks reduce_when_done();
  // Returns this rank's mean loss, float64 [1] on the device.
  Tensor accumulate_gradients(std::int64_t step);
  void refresh_masks(std::int64_t step);
  void require_finite(const Tensor& own_loss, std::int64_t step);
  void follow(const std::vector<sparsity::StorageChange>& changes);
  void move_average();
  void check_ranks_agree();
  // Reads what the last steps have left, where this step is one to do so.
  void settle(bool stop);
  bool milestone(bool stop) const;
  // The step after which this call of run() ends, if nothing stops it.
  std::int64_t last_step() const;
  void log_step(bool stop);
  // Whether by a recipe the newest step is followed by an evaluation.
  bool evaluation_is_due(const Recipe& recipe) const;
  // Both return whether it was done, not broken off by a stop signal. `kept`: the newest step has a
  // checkpoint.
  bool evaluate_now(bool kept);
  bool make_up_evaluation();
  void checkpoint_now();
  // Writes the checkpoint of this step once more if the evaluation after it met products of which
  // a GPU had not chosen yet how to compute them. Collective.
  void keep_new_choices();
  // Last words, where a stop signal has come. `stop`: it is why the run ends.
  void say_what_stopped(bool stop);
  double sparsity_now() const;
  std::vector<WeightCost> weight_costs() const;  // of the step after progress_
  double flops_of_this_step() const;
  // What masks that train cost, if there are any.
  std::optional<std::string> cost_of_masks() const;
  layers::Model& model() const { return *parts_.model; }
  sparsity::Sparsifier& sparsifier() const { return *parts_.sparsifier; }
  bool root() const { return comm_.rank() == 0; }

  Recipe recipe_;
  TrainOptions options_;
  dist::Communicator& comm_;
  const StopSignal& stop_signal_;
  Stream stream_;
  RunDirectory directory_;
  FileDescriptor lock_;  // of rank 0, on the directory
  std::unique_ptr<Workload> workload_;
  Progress progress_;
  SparseModel parts_;
  std::unique_ptr<RankOptimizer> optimizer_;
  std::optional<optim::WeightAverage> average_;  // where the recipe has train.ema
  dist::GradientReducer reducer_;
  std::optional<cuda::Mark> step_end_;  // of the newest step, where several ranks have GPUs
  RunLog log_;                          // silent but for rank 0
  StepProfile profile_;
  StepOutcomes outcomes_;
  KnownOutcome known_;            // of the newest step that was read
  bool owes_evaluation_ = false;  // after the newest step
  std::string kept_choices_;      // the product choices of the newest checkpoint
  std::string stop_reason_;
};

}  // namespace hew::train
