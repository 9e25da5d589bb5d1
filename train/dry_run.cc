#include "train/dry_run.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <limits>
#include <map>
#include <set>
#include <tuple>
#include <vector>

#include "core/error.h"
#include "sparsity/schedule.h"
#include "train/flops.h"
#include "train/memory_estimate.h"
#include "train/model_setup.h"
#include "train/stored_model.h"
#include "train/workload.h"

namespace hew::train {
namespace {

constexpr double kGiB = 1024.0 * 1024.0 * 1024.0;
constexpr std::array<int, 5> kPercents{0, 25, 50, 75, 100};  // of the run, as table columns

std::int64_t step_at(const Recipe& recipe, int percent) {
  const std::int64_t steps = recipe.train.steps;
  return steps / 100 * percent + steps % 100 * percent / 100;
}

// The rows that are linear weights.
std::vector<ParameterRow> linear_rows(const SparseModel& parts,
                                      const std::vector<ParameterRow>& rows) {
  std::set<std::string> names;
  for (const sparsity::LinearWeight* weight : parts.model->linear_weights()) {
    names.insert(weight->name());
  }
  std::vector<ParameterRow> linear;
  std::copy_if(rows.begin(), rows.end(), std::back_inserter(linear),
               [&names](const ParameterRow& row) { return names.contains(row.name); });
  return linear;
}

WeightCost cost_at(const Recipe& recipe, const SparseModel& parts, const ParameterRow& row,
                   std::int64_t step) {
  WeightCost cost = dense_cost(recipe.model, row.name, row.shape[0], row.shape[1]);
  if (row.target == nullptr)
    return cost;
  const sparsity::SparsityRule& rule = parts.sparsifier->rules()[row.target->rule];
  cost.density = static_cast<double>(wanted_live(*parts.sparsifier, row, selected_at(rule, step))) /
                 static_cast<double>(row.grid.blocks());
  const bool frozen = rule.freeze_scores_at && step >= rule.freeze_scores_at->step;
  cost.dense_gradient =
      selects_every_step(rule) ? !frozen : grows_at(rule, step) && refreshes_at(rule, step);
  return cost;
}

double flops_at(const Recipe& recipe, const SparseModel& parts,
                const std::vector<ParameterRow>& linear, std::int64_t step) {
  std::vector<WeightCost> costs;
  costs.reserve(linear.size());
  for (const ParameterRow& row : linear) costs.push_back(cost_at(recipe, parts, row, step));
  return step_flops(recipe.model, recipe.train.batch, costs);
}

// A weight's FLOPs over all steps of the run.
double run_flops_of(const Recipe& recipe, const SparseModel& parts, const ParameterRow& row) {
  const std::int64_t steps = recipe.train.steps;
  double flops = 0;
  std::int64_t next = 0;
  for (std::int64_t step = 0; step < steps; step = next) {
    next = row.target == nullptr
               ? steps
               : std::min(next_change(parts.sparsifier->rules()[row.target->rule], step), steps);
    flops += static_cast<double>(next - step) *
             weight_flops(recipe.train.batch, cost_at(recipe, parts, row, step));
  }
  return flops;
}

double run_flops(const Recipe& recipe, const SparseModel& parts,
                 const std::vector<ParameterRow>& linear) {
  double flops = static_cast<double>(recipe.train.steps) *
                 step_flops(recipe.model, recipe.train.batch, /*weights=*/{});
  using Kind = std::tuple<std::int64_t, std::int64_t, std::int64_t, bool, std::size_t>;
  std::map<Kind, double> known;  // of one weight of a kind
  const std::size_t no_rule = parts.sparsifier->rules().size();
  for (const ParameterRow& row : linear) {
    const WeightCost cost = dense_cost(recipe.model, row.name, row.shape[0], row.shape[1]);
    const auto [kind, fresh] =
        known.try_emplace({cost.out_features, cost.in_features, cost.rows, cost.input_gradient,
                           row.target == nullptr ? no_rule : row.target->rule});
    if (fresh)
      kind->second = run_flops_of(recipe, parts, row);
    flops += kind->second;
  }
  return flops;
}

std::string layer_table(const Recipe& recipe, const SparseModel& parts,
                        const std::vector<ParameterRow>& rows) {
  std::string text = fmt::format("{:<32} {:>16} {:>13} {:>6} {:>8}", "parameter", "shape",
                                 "elements", "block", "blocks");
  for (const int percent : kPercents) text += fmt::format(" {:>8}", fmt::format("@{}%", percent));
  text += "\n";
  for (const ParameterRow& row : rows) {
    text += fmt::format("{:<32} {:>16} {:>13}", row.name, to_string(row.shape), row.shape.numel());
    if (row.target != nullptr) {
      text += fmt::format(" {:>6} {:>8}", row.grid.block, row.grid.blocks());
      for (const int percent : kPercents) {
        text +=
            fmt::format(" {:>8}", wanted_live(*parts.sparsifier, row, step_at(recipe, percent)));
      }
    }
    text += "\n";
  }
  return text;
}

std::string memory_table(const Recipe& recipe, int ranks, const MemoryEstimate& first,
                         const MemoryEstimate& last) {
  std::string text = fmt::format("{:<34} {:>9} {:>9}\n", "memory a rank, an estimate in GiB",
                                 "at first", "at last");
  auto line = [&](const std::string& what, double MemoryEstimate::*part) {
    if (first.*part > 0 || last.*part > 0)
      text +=
          fmt::format("  {:<32} {:>9.3f} {:>9.3f}\n", what, first.*part / kGiB, last.*part / kGiB);
  };
  line("weights", &MemoryEstimate::weights);
  line("copies that products read", &MemoryEstimate::copies);
  line("dense copies of live blocks", &MemoryEstimate::folded);
  line("moments", &MemoryEstimate::moments);
  line("moving averages of weights", &MemoryEstimate::averages);
  line("gradients", &MemoryEstimate::gradients);
  line("dense gradients of a refresh", &MemoryEstimate::dense_gradients);
  line(fmt::format("activations of {} {}(s)", samples_at_a_time(recipe.train, ranks),
                   recipe.model.reads_images() ? "image" : "sequence"),
       &MemoryEstimate::activations);
  line("what comes and goes", &MemoryEstimate::passing);
  line("CUDA and its libraries", &MemoryEstimate::libraries);
  line("most at one time", &MemoryEstimate::most);
  return text;
}

}  // namespace

std::string dry_run_report(Recipe recipe, int ranks, const Stream& stream,
                           const std::optional<DeviceMemory>& here) {
  samples_at_a_time(recipe.train, ranks);  // throws where the ranks cannot share the batch
  complete_model(recipe);
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  require<ConfigError>(
      recipe.train.batch <= kMost / std::max<std::int64_t>(recipe.model.context, 1),
      "train.batch: the tokens of {} samples are too many to count", recipe.train.batch);
  const SparseModel parts = build_model(recipe, stream, Build::kShapesOnly);
  const std::vector<ParameterRow> rows = parameter_rows(parts);
  std::string text = layer_table(recipe, parts, rows);

  std::int64_t elements = 0;
  for (const ParameterRow& row : rows) elements += row.shape.numel();
  const std::vector<ParameterRow> linear = linear_rows(parts, rows);
  const double total = run_flops(recipe, parts, linear);
  const std::int64_t last = recipe.train.steps - 1;
  text += fmt::format("\nparameters        {} in full\n", elements);
  auto memory = [&](std::int64_t step) {
    return estimate_memory(recipe, ranks, stored_model(recipe, ranks, parts, rows, step));
  };
  const MemoryEstimate first_needs = memory(0);
  const MemoryEstimate last_needs = memory(last);
  text += memory_table(recipe, ranks, first_needs, last_needs);
  if (here) {
    if (const auto excessive = excess(std::max(first_needs.most, last_needs.most), *here))
      text += fmt::format("  exceeds {}\n", *excessive);
  }
  text += "\n";
  text += fmt::format("batch             {} {}, {} tokens a step on {} rank(s)\n",
                      recipe.train.batch, recipe.model.reads_images() ? "images" : "sequences",
                      recipe.train.batch * recipe.model.context, ranks);
  text += fmt::format("FLOPs a step      {:.4e} at step 0, {:.4e} at the last\n",
                      flops_at(recipe, parts, linear, 0), flops_at(recipe, parts, linear, last));
  const StepWork work = step_work(recipe);
  text += fmt::format(
      "FLOPs of the run  {:.4e} over {} steps, {:.3e} {}\n", total, recipe.train.steps,
      static_cast<double>(work.amount) * static_cast<double>(recipe.train.steps), work.unit);
  const bool adds = std::ranges::any_of(recipe.sparsity, [](const sparsity::SparsityRule& rule) {
    return rule.regrow == sparsity::Regrow::kUnion && rule.growth != sparsity::Growth::kNone;
  });
  if (adds)
    text += "                  without the blocks that `regrow: union` adds to the schedule's\n";
  return text;
}

}  // namespace hew::train
