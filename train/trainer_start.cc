#include <algorithm>
#include <chrono>
#include <utility>

#include "core/error.h"
#include "dist/consistency.h"
#include "train/bsr_routes_file.h"
#include "train/memory_check.h"
#include "train/start_weights.h"
#include "train/trainer.h"

/// How a run begins: everything that may refuse it, then its folder.
namespace hew::train {
Trainer::Trainer(const Recipe& recipe, const TrainOptions& options, dist::Communicator& comm,
                 const StopSignal& stop_signal, const Stream& stream)
    : recipe_(recipe),
      options_(options),
      comm_(comm),
      stop_signal_(stop_signal),
      stream_(stream),
      directory_(recipe.run.dir),
      reducer_(comm),
      profile_(options.profile, stream) {
  if (comm.size() > 1 && !stream.device.is_cpu())
    step_end_.emplace();
  samples_at_a_time(recipe_.train, comm.size());  // refuses what cannot be shared out
  require_batch_fits(recipe_, comm.size());
  set_up_kernels(recipe_, stream_);
  comm_.set_deadline(std::chrono::seconds(recipe_.run.timeout));
  workload_ = open_workload(recipe_, comm_, stream_);
  if (root() && options_.resume)
    lock_ = directory_.lock();
  else if (root())  // alone: who looks holds the lock for a moment
    directory_.require_free();
  const std::vector<std::string> news = options_.resume ? resume() : start();
  give_up_if_told();
  profile_.require_reached(progress_.steps, last_step());
  workload_->start(progress_.rng_seed, progress_.samples);
  comm_.barrier();  // from here on nothing can refuse the run: it may be written down
  const bool evaluated = options_.resume && root() && keep_evaluation();
  if (root())
    open_directory(news);
  owes_evaluation_ = owes_evaluation_ && !comm_.roll_call(evaluated);
}

bool Trainer::keep_evaluation() {
  const std::optional<std::int64_t> end =
      end_of_evaluation(directory_.metrics(), progress_.steps, progress_.metrics_bytes);
  progress_.metrics_bytes = std::max(progress_.metrics_bytes, end.value_or(0));
  return end.has_value();
}

void Trainer::give_up_if_told() const {
  const std::string_view signal = stop_signal_.poll_urgent();
  require<Error>(signal.empty(), "[train] stopped by {} before its first step; nothing was written",
                 signal);
}

void Trainer::require_memory() {
  if (const std::optional<DeviceMemory> memory = device_memory(stream_.device, comm_))
    require_training_fits(recipe_, comm_.size(), progress_.steps, *memory);
}

std::vector<std::string> Trainer::start() {
  require_memory();
  std::vector<std::string> news = use_bsr_routes(read_bsr_routes(recipe_), stream_);
  progress_.rng_seed = static_cast<std::uint64_t>(recipe_.run.seed);
  parts_ = build_model(recipe_, stream_, Build::kWhole, [this] { give_up_if_told(); });
  if (!recipe_.start.init.empty())
    news.push_back(start_from_init(recipe_, workload_->record(), model()));
  dist::broadcast_parameters(comm_, model().parameters());
  sparsifier().initialise();
  optimizer_ = std::make_unique<RankOptimizer>(recipe_.optim, model().parameters(), comm_);
  if (recipe_.train.ema > 0)
    average_.emplace(model().parameters());
  return news;
}

std::vector<std::string> Trainer::resume() {
  std::vector<std::string> news;
  const Checkpoint checkpoint = open_newest_checkpoint(directory_, news);
  for (std::string& line : news) line.insert(0, "warning: ");
  const std::vector<std::string> conflicts = resume_conflicts(checkpoint.recipe(), recipe_);
  require<ConfigError>(conflicts.empty(), "{}: {}", checkpoint.file(), fmt::join(conflicts, "; "));
  workload_->require_record(checkpoint.data());
  progress_ = checkpoint.progress();
  owes_evaluation_ = evaluation_is_due(checkpoint.recipe());
  const std::vector<std::string> missed =
      missed_by_resume(checkpoint.recipe(), recipe_, progress_.steps);
  require<ConfigError>(missed.empty(), "{}: {}", checkpoint.file(), fmt::join(missed, "; "));
  require_memory();
  kept_choices_ = checkpoint.product_choices();
  checkpoint.restore_product_choices(stream_);
  const std::optional<kernels::BsrRoutes> kept = checkpoint.bsr_routes();
  for (std::string& line : use_bsr_routes(kept ? kept : read_bsr_routes(recipe_), stream_)) {
    news.push_back(std::move(line));
  }
  parts_ = build_model(recipe_, stream_, Build::kWhole, [this] { give_up_if_told(); });
  checkpoint.restore_model(model(), sparsifier());
  optimizer_ = std::make_unique<RankOptimizer>(recipe_.optim, model().parameters(), comm_);
  checkpoint.restore_optimizer(*optimizer_);
  if (recipe_.train.ema > 0) {
    average_.emplace(model().parameters());
    checkpoint.restore_average(*average_);
  }
  news.push_back(fmt::format("resumed from {} after {} steps", checkpoint.file(), progress_.steps));
  return news;
}

std::optional<std::string> Trainer::cost_of_masks() const {
  std::vector<WeightCost> costs = weight_costs();
  const double all = step_flops(recipe_.model, recipe_.train.batch, costs);
  std::int64_t weights = 0;
  for (WeightCost& cost : costs) {
    weights += cost.dense_gradient ? 1 : 0;
    cost.dense_gradient = false;
  }
  if (weights == 0)
    return std::nullopt;
  const double live = step_flops(recipe_.model, recipe_.train.batch, costs);
  return fmt::format(
      "masks that train need the whole gradients of {} weights: {:.3g} FLOPs a step, {:.3g} with "
      "those of live blocks alone",
      weights, all, live);
}

void Trainer::open_directory(const std::vector<std::string>& news) {
  if (options_.resume) {
    directory_.save_recipe(recipe_);
    directory_.remove_unfinished();
  } else {
    lock_ = directory_.create(recipe_);
  }
  log_ = RunLog(directory_, progress_.metrics_bytes);
  for (const std::string& line : news) log_.say(line);
  if (const std::optional<std::string> cost = cost_of_masks())
    log_.say(*cost);
}

}  // namespace hew::train
