#include "train/trainer.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include "core/error.h"
#include "dist/consistency.h"
#include "kernels/elementwise.h"
#include "optim/clip.h"
#include "optim/lr_schedule.h"
#include "train/averaged_model.h"
#include "train/bsr_routes_file.h"

namespace hew::train {

ag::BackwardHooks Trainer::reduce_when_done() {
  const bool slices = optimizer_->sharded() && !sparsifier().reads_gradients(progress_.steps);
  reducer_.begin(model().parameters(), slices ? dist::Share::kSlices : dist::Share::kWhole);
  return {.leaf_done = [this, step = progress_.steps](const void* leaf) {
    reducer_.ready(leaf);
    if (sparsity::LinearWeight* weight = sparsifier().dense_gradient_weight(leaf)) {
      reducer_.average(weight->dense_gradient());
      sparsifier().dense_gradient_done(*weight, step);
    }
  }};
}

Tensor Trainer::accumulate_gradients(std::int64_t step) {
  for (ag::Parameter* parameter : model().parameters()) parameter->var.zero_grad();
  const std::vector<MicroBatch> batches = workload_->next(model());
  const double share = 1.0 / static_cast<double>(batches.size());
  Tensor total = Tensor::zeros({1}, DType::kFloat64, stream_);
  for (const MicroBatch& batch : batches) {
    ag::ForwardContext context = forward_context(recipe_);
    context.training = true;
    context.seed = progress_.rng_seed;
    context.step = progress_.rng_step;
    context.first_sample = batch.first_sample - step * recipe_.train.batch;
    const ag::Variable loss = batch.loss(share, context);
    // A GPU takes only so many launches at once; with two steps of them behind a collective that
    // some rank leaves out, the host would not get to the roll call.
    if (step_end_ && &batch == &batches.front())
      cuda::wait(*step_end_, stream_);
    const bool last = &batch == &batches.back();
    ag::backward(loss, Tensor(), last ? reduce_when_done() : ag::BackwardHooks{});
    Tensor value = Tensor::empty({1}, DType::kFloat64, stream_);
    kernels::cast(loss.value().reshape({1}), value, stream_);
    kernels::add(total, value, total, stream_);
  }
  return total;
}

void Trainer::follow(const std::vector<sparsity::StorageChange>& changes) {
  if (changes.empty())
    return;
  for (const sparsity::StorageChange& change : changes) {
    const sparsity::BsrPattern& pattern = *change.weight->pattern();
    optimizer_->convert(change.weight->name(), [&pattern](const Tensor& moment) {
      return sparsity::gather(moment, pattern);
    });
    if (!average_)
      continue;
    average_->convert(change.weight->name(), [&](const Tensor& average) {
      return sparsity::gather(
          change.soft.defined() ? softened(average, change.soft, pattern.grid().block) : average,
          pattern);
    });
    average_->forget(change.scores_name);
  }
  optimizer_->set_parameters(model().parameters());
}

void Trainer::refresh_masks(std::int64_t step) {
  const RunLog::Clock::time_point start = RunLog::Clock::now();
  const std::vector<sparsity::PatternChange> changes = sparsifier().refresh(step);
  for (const sparsity::PatternChange& change : changes) {
    optimizer_->remap(change.weight->name(), change.source);
    if (average_)
      average_->remap(change.weight->parameter(), change.source);
  }
  if (changes.empty())
    return;
  synchronize(stream_);
  const std::chrono::duration<double> taken = RunLog::Clock::now() - start;
  log_.refresh(sparsifier(), {.step = step, .seconds = taken.count()});
}

void Trainer::move_average() {
  if (average_is_due(recipe_.train, progress_.steps))
    average_->update(model().parameters(), average_decay(recipe_.train, progress_.steps));
}

void Trainer::require_finite(const Tensor& own_loss, std::int64_t step) {
  Tensor loss = own_loss.clone();
  comm_.all_reduce(loss, dist::Reduction::kMean, stream_);
  const double value = loss.to_vector<double>().front();
  require<Error>(std::isfinite(value), "[train] step {}: the loss is {}", step + 1, value);
}

bool Trainer::told_to_stop() {
  const std::string_view signal = stop_signal_.poll();
  if (!signal.empty())
    stop_reason_ = signal;
  return comm_.roll_call(!signal.empty());
}

bool Trainer::train_step() {
  const std::int64_t step = progress_.steps;
  comm_.set_step(step + 1);
  follow(sparsifier().begin_step(step));
  progress_.flops += flops_of_this_step();
  const Tensor loss = accumulate_gradients(step);
  const bool stop = told_to_stop();
  reducer_.finish();
  if (sparsifier().reads_gradients(step))
    require_finite(loss, step);  // before masks move by it
  refresh_masks(step);
  SlicedNorm norm = optimizer_->gradient_norm(recipe_.optim.clip_norm);
  const double lr = optim::learning_rate(recipe_.optim, step, recipe_.train.steps);
  optimizer_->step(lr, norm.scale());
  outcomes_.add({.step = step, .loss = loss, .norm = std::move(norm), .learning_rate = lr});
  if (step_end_)
    step_end_->record(stream_);
  ++progress_.steps;
  ++progress_.rng_step;
  progress_.samples = workload_->position();
  move_average();
  return stop;
}

void Trainer::settle(bool stop) {
  // On the CPU nothing is gained by waiting.
  if (stream_.device.is_cpu() || milestone(stop))
    known_ = outcomes_.read(comm_, stream_);
}

bool Trainer::milestone(bool stop) const {
  const std::int64_t step = progress_.steps;
  auto due = [step](std::int64_t every) { return every > 0 && step % every == 0; };
  return due(recipe_.train.log_every) || due(recipe_.train.eval_every) ||
         due(recipe_.checkpoint.every) || due(recipe_.run.hash_check_every) ||
         step == recipe_.train.steps || step == options_.stop_after || stop;
}

std::int64_t Trainer::last_step() const {
  return std::min(options_.stop_after.value_or(recipe_.train.steps), recipe_.train.steps);
}

void Trainer::run() {
  const std::int64_t last = last_step();
  log_.begin(progress_.steps);
  auto due = [this](std::int64_t every) { return every > 0 && progress_.steps % every == 0; };
  bool idle = !owes_evaluation_;
  bool stop = owes_evaluation_ && !make_up_evaluation();
  const bool untrained = last == 0 && !options_.resume;
  if (untrained) {
    checkpoint_now();
    idle = false;
  }
  while (progress_.steps < last && !stop) {
    profile_.begin_step(progress_.steps + 1);
    stop = train_step();
    const std::string table = profile_.end_step(progress_.steps, stop || progress_.steps == last);
    if (!table.empty())
      log_.say(table);
    settle(stop);
    if (due(recipe_.run.hash_check_every))
      check_ranks_agree();
    log_step(stop);
    // Before the evaluation: whoever is killed during it has lost that alone.
    const bool kept = due(recipe_.checkpoint.every) || stop || progress_.steps == last;
    if (kept)
      checkpoint_now();
    owes_evaluation_ = evaluation_is_due(recipe_);
    if (owes_evaluation_ && !stop)  // who stops has no time for it
      stop = !evaluate_now(kept);
    if (stop && !kept)
      checkpoint_now();
    idle = false;
  }
  if (idle)
    log_.say(fmt::format("nothing to do: {} of {} steps are done", progress_.steps,
                         recipe_.train.steps));
  if (stop || told_to_stop())
    say_what_stopped(stop);
  log_.end_live_line();
}

void Trainer::say_what_stopped(bool stop) {
  const std::string signal = stop_reason_.empty() ? "a signal to another rank" : stop_reason_;
  const std::int64_t steps = recipe_.train.steps;
  const bool last = progress_.steps == steps;
  if (stop && owes_evaluation_) {
    log_.say(fmt::format(
        "stopped by {} after step {}{} without its evaluation; --resume makes up for it{}", signal,
        progress_.steps, last ? ", the last," : "", last ? "" : " and goes on"));
  } else if (stop && !last) {
    log_.say(
        fmt::format("stopped by {} after step {}; resume with --resume", signal, progress_.steps));
  } else {
    log_.say(fmt::format("{} changed nothing: the run had ended, after step {} of {}", signal,
                         progress_.steps, steps));
  }
}

void Trainer::check_ranks_agree() {
  if (comm_.size() == 1)
    return;
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const ag::Parameter* parameter : model().parameters()) {
    tensors.emplace_back(parameter->name, parameter->value());
  }
  for (const sparsity::Sparsifier::Target& target : sparsifier().targets()) {
    tensors.emplace_back(target.weight->name() + " (mask)",
                         Tensor::from(target.weight->pattern()->mask(),
                                      {target.weight->pattern()->grid().blocks()}, stream_));
  }
  for (auto& [name, tensor] : optimizer_->common_state()) {
    tensors.emplace_back("optimizer/" + name, tensor);
  }
  if (average_) {
    for (auto& [name, tensor] : average_->state()) tensors.emplace_back("average/" + name, tensor);
  }
  dist::check_equal(comm_, tensors);
}

std::vector<WeightCost> Trainer::weight_costs() const {
  std::set<const sparsity::LinearWeight*> trained_masks;
  for (const sparsity::Sparsifier::Target& target : sparsifier().targets()) {
    if (sparsifier().trains_mask(target, progress_.steps))
      trained_masks.insert(target.weight);
  }
  std::vector<WeightCost> costs;
  for (const sparsity::LinearWeight* weight : model().linear_weights()) {
    WeightCost cost =
        dense_cost(recipe_.model, weight->name(), weight->out_features(), weight->in_features());
    if (weight->pattern() != nullptr)
      cost.density = 1 - weight->pattern()->sparsity();
    cost.dense_gradient = trained_masks.contains(weight) || weight->wants_dense_gradient();
    costs.push_back(cost);
  }
  return costs;
}

double Trainer::flops_of_this_step() const {
  return step_flops(recipe_.model, recipe_.train.batch, weight_costs());
}

double Trainer::sparsity_now() const {
  std::int64_t live = 0;
  std::int64_t blocks = 0;
  for (const sparsity::Sparsifier::Target& target : sparsifier().targets()) {
    live += target.weight->pattern()->nnzb();
    blocks += target.weight->pattern()->grid().blocks();
  }
  return blocks == 0 ? 0 : 1.0 - static_cast<double>(live) / static_cast<double>(blocks);
}

void Trainer::log_step(bool stop) {
  if (!root() || !outcomes_.empty())
    return;  // nothing new is known
  const bool milestone = progress_.steps % recipe_.train.log_every == 0 ||
                         progress_.steps == recipe_.train.steps || stop;
  log_.step({.recipe = recipe_,
             .progress = progress_,
             .outcome = known_,
             .sparsity = sparsity_now(),
             .bytes_reduced = reducer_.bytes_reduced(),
             .optimizer_bytes = milestone ? optimizer_->state_bytes() : 0},
            milestone);
}

bool Trainer::evaluation_is_due(const Recipe& recipe) const {
  const std::int64_t step = progress_.steps;
  const std::int64_t every = recipe.train.eval_every;
  return workload_->evaluates() && step > 0 &&
         (step == recipe.train.steps || (every > 0 && step % every == 0));
}

bool Trainer::make_up_evaluation() {
  log_.say(fmt::format("the evaluation after step {} is not in the metrics: it is made up for",
                       progress_.steps));
  comm_.set_step(progress_.steps);
  return evaluate_now(/*kept=*/true);
}

bool Trainer::evaluate_now(bool kept) {
  const RunLog::Clock::time_point start = RunLog::Clock::now();
  struct BrokenOff {};
  const auto look_for_signals = [this] {
    if (told_to_stop())
      throw BrokenOff();
  };
  const auto evaluate = [&] {
    if (average_) {
      const SparseModel averaged = averaged_model(recipe_, parts_, *average_, progress_.steps);
      return workload_->evaluate(*averaged.model, look_for_signals);
    }
    sparsifier().select_trained_masks(progress_.steps);
    return workload_->evaluate(model(), look_for_signals);
  };
  try {
    const EvaluationReport report = evaluate();
    log_.leave_out(start);
    if (kept)  // before the record: without one the evaluation is made up for, choices and all
      keep_new_choices();
    log_.evaluation(report, progress_.steps);
  } catch (const BrokenOff&) {
    return false;
  }
  owes_evaluation_ = false;
  return true;
}

void Trainer::keep_new_choices() {
  if (stream_.device.is_cuda() &&
      comm_.roll_call(root() && product_choices(stream_) != kept_choices_))
    checkpoint_now();
}

void Trainer::checkpoint_now() {
  const RunLog::Clock::time_point start = RunLog::Clock::now();
  sparsifier().select_trained_masks(progress_.steps);
  for (const ag::Parameter* parameter : model().parameters()) {
    require<Error>(std::isfinite(kernels::sum_of_squares(parameter->value(), stream_)),
                   "[train] step {}: {} is not finite", progress_.steps, parameter->name);
  }
  const optim::NamedTensors optimizer = optimizer_->state();
  if (root()) {
    progress_.metrics_bytes = log_.metrics_bytes();
    kept_choices_ = product_choices(stream_);
    save_checkpoint(directory_.checkpoint(progress_.steps),
                    {.recipe = recipe_,
                     .progress = progress_,
                     .data = workload_->record(),
                     .model = model(),
                     .sparsifier = sparsifier(),
                     .optimizer = optimizer,
                     .average = average_ ? average_->state() : optim::NamedTensors(),
                     .product_choices = kept_choices_,
                     .bsr_routes = bsr_routes(stream_)});
    directory_.prune_checkpoints(recipe_.checkpoint.keep, progress_.steps);
  }
  comm_.barrier();
  log_.leave_out(start);
}

}  // namespace hew::train
