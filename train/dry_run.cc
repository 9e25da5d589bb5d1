#include "train/dry_run.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <map>
#include <set>
#include <vector>

#include "core/error.h"
#include "kernels/bsr_route.h"
#include "kernels/bsr_schedule.h"
#include "sparsity/schedule.h"
#include "sparsity/selection.h"
#include "train/flops.h"
#include "train/memory_estimate.h"
#include "train/model_setup.h"
#include "train/workload.h"

namespace hew::train {
namespace {

constexpr double kGiB = 1024.0 * 1024.0 * 1024.0;
constexpr std::array<int, 5> kPercents{0, 25, 50, 75, 100};  // of the run, as table columns

struct Row {
  std::string name;
  Shape shape;
  const sparsity::Sparsifier::Target* target = nullptr;  // null: no rule
  sparsity::BlockGrid grid;
};

std::int64_t step_at(const Recipe& recipe, int percent) {
  return recipe.train.steps * percent / 100;
}

bool learned(const sparsity::SparsityRule& rule) {
  return rule.score == sparsity::Score::kLearned;
}

// Whether a refresh at `step` may bring dead blocks in, and asks for the dense gradient.
bool grows_at(const sparsity::SparsityRule& rule, std::int64_t step) {
  return rule.growth != sparsity::Growth::kNone && rule.regrow != sparsity::Regrow::kNone &&
         step < rule.schedule.end.step;
}

std::int64_t wanted_live(const sparsity::Sparsifier& sparsifier, const Row& row,
                         std::int64_t step) {
  const double sparsity = sparsifier.wanted_sparsity(*row.target, step);
  const std::int64_t blocks = row.grid.blocks();
  return learned(sparsifier.rules()[row.target->rule]) ? sparsity::kept_blocks(blocks, sparsity)
                                                       : sparsity::live_blocks(blocks, sparsity);
}

std::vector<Row> collect_rows(const SparseModel& parts) {
  std::map<std::string, const sparsity::Sparsifier::Target*> targets;
  for (const sparsity::Sparsifier::Target& target : parts.sparsifier->targets()) {
    targets[target.weight->name()] = &target;
  }
  std::vector<Row> rows;
  for (const ag::Parameter* parameter : parts.model->parameters()) {
    Row row{.name = parameter->name, .shape = parameter->value().shape(), .grid = {}};
    const auto found = targets.find(row.name);
    if (found != targets.end()) {
      row.target = found->second;
      row.grid = {.rows = row.shape[0],
                  .cols = row.shape[1],
                  .block = parts.sparsifier->rules()[row.target->rule].block};
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

// Whether forward or input gradient go through a dense product on a Hopper, by the estimate.
bool folds(const Recipe& recipe, int ranks, kernels::BsrProblem problem) {
  problem.dtype = activation_dtype(recipe.train.precision);
  problem.tf32 = recipe.train.precision == Precision::kTf32;
  problem.tokens = samples_at_a_time(recipe.train, ranks) * recipe.model.context;
  const std::int64_t pack = 16 / size_of(problem.dtype);  // of elements that TMA moves
  problem.hopper = problem.hopper && kernels::has_schedule(problem.block) &&
                   (problem.dtype == DType::kBFloat16 || problem.tf32) &&
                   problem.rows % pack == 0 && problem.cols % pack == 0;
  problem.product = kernels::BsrProduct::kForward;
  const bool forward = kernels::cheapest_route(problem) == kernels::BsrRoute::kFolded;
  problem.product = kernels::BsrProduct::kInputGradient;
  return forward || kernels::cheapest_route(problem) == kernels::BsrRoute::kFolded;
}

// A matrix under a rule, as it is stored at `step`.
StoredParameter stored_parameter(const Recipe& recipe, int ranks,
                                 const sparsity::Sparsifier& sparsifier, const Row& row,
                                 std::int64_t step) {
  const auto all = static_cast<double>(row.shape.numel());
  if (row.target == nullptr)
    return {.stored = all, .live = all};
  const sparsity::SparsityRule& rule = sparsifier.rules()[row.target->rule];
  const std::int64_t blocks = wanted_live(sparsifier, row, step);
  const auto live = static_cast<double>(blocks * row.grid.block * row.grid.block);
  const bool frozen = rule.freeze_scores_at && step >= rule.freeze_scores_at->step;
  const bool masked = rule.weights != sparsity::Weights::kLive && !frozen;
  const bool copied = recipe.run.keep_folded && !recipe.run.device.is_cpu() &&
                      folds(recipe, ranks,
                            {.rows = row.grid.rows,
                             .cols = row.grid.cols,
                             .block = row.grid.block,
                             .nnzb = blocks,
                             .hopper = frozen || !selects_every_step(rule)});
  const double scores = learned(rule) ? static_cast<double>(row.grid.blocks()) : 0.0;
  return {.stored = masked ? all + scores : live,
          .live = live,
          .masked = masked,
          .folded = copied ? all : 0,
          .dense_gradient = grows_at(rule, step) ? all : 0,
          .used_up_early = sparsity::Sparsifier::used_up_early(rule)};
}

// The model as it is stored at `step`.
StoredModel stored_model(const Recipe& recipe, int ranks, const SparseModel& parts,
                         const std::vector<Row>& rows, std::int64_t step) {
  StoredModel out;
  out.dense_mlps = recipe.model.layers;
  std::set<std::string> sparse_mlps;
  for (const Row& row : rows) {
    out.parameters.push_back(stored_parameter(recipe, ranks, *parts.sparsifier, row, step));
    const std::size_t mlp = row.name.find(".mlp.");
    if (row.target != nullptr && mlp != std::string::npos)
      sparse_mlps.insert(row.name.substr(0, mlp));
    const bool head = recipe.model.tied_embeddings ? row.name == "token_embedding.weight"
                                                   : row.name == "head.weight";
    if (head) {
      out.head_elements = out.parameters.back().stored;
      out.sparse_head = row.target != nullptr;
    }
  }
  out.dense_mlps -= std::ssize(sparse_mlps);
  return out;
}

// The rows that are linear weights.
std::vector<Row> linear_rows(const SparseModel& parts, const std::vector<Row>& rows) {
  std::set<std::string> names;
  for (const sparsity::LinearWeight* weight : parts.model->linear_weights()) {
    names.insert(weight->name());
  }
  std::vector<Row> linear;
  std::copy_if(rows.begin(), rows.end(), std::back_inserter(linear),
               [&names](const Row& row) { return names.contains(row.name); });
  return linear;
}

double flops_at(const Recipe& recipe, const SparseModel& parts, const std::vector<Row>& linear,
                std::int64_t step) {
  std::vector<WeightCost> costs;
  for (const Row& row : linear) {
    WeightCost cost = dense_cost(recipe.model, row.name, row.shape[0], row.shape[1]);
    if (row.target != nullptr) {
      const sparsity::SparsityRule& rule = parts.sparsifier->rules()[row.target->rule];
      cost.density = static_cast<double>(wanted_live(*parts.sparsifier, row, step)) /
                     static_cast<double>(row.grid.blocks());
      const bool frozen = rule.freeze_scores_at && step >= rule.freeze_scores_at->step;
      cost.dense_gradient =
          selects_every_step(rule) ? !frozen : grows_at(rule, step) && refreshes_at(rule, step);
    }
    costs.push_back(cost);
  }
  return step_flops(recipe.model, recipe.train.batch, costs);
}

std::string layer_table(const Recipe& recipe, const SparseModel& parts,
                        const std::vector<Row>& rows) {
  std::string text = fmt::format("{:<32} {:>16} {:>13} {:>6} {:>8}", "parameter", "shape",
                                 "elements", "block", "blocks");
  for (const int percent : kPercents) text += fmt::format(" {:>8}", fmt::format("@{}%", percent));
  text += "\n";
  for (const Row& row : rows) {
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

std::string dry_run_report(Recipe recipe, int ranks, const Stream& stream) {
  samples_at_a_time(recipe.train, ranks);  // throws where the ranks cannot share the batch
  complete_model(recipe);
  const SparseModel parts = build_model(recipe, stream, Build::kShapesOnly);
  const std::vector<Row> rows = collect_rows(parts);
  std::string text = layer_table(recipe, parts, rows);

  std::int64_t elements = 0;
  for (const Row& row : rows) elements += row.shape.numel();
  const std::vector<Row> linear = linear_rows(parts, rows);
  double total = 0;
  for (std::int64_t step = 0; step < recipe.train.steps; ++step) {
    total += flops_at(recipe, parts, linear, step);
  }
  const std::int64_t last = recipe.train.steps - 1;
  text += fmt::format("\nparameters        {} in full\n", elements);
  auto memory = [&](std::int64_t step) {
    return estimate_memory(recipe, ranks, stored_model(recipe, ranks, parts, rows, step));
  };
  text += memory_table(recipe, ranks, memory(0), memory(last)) + "\n";
  text += fmt::format("batch             {} {}, {} tokens a step on {} rank(s)\n",
                      recipe.train.batch, recipe.model.reads_images() ? "images" : "sequences",
                      recipe.train.batch * recipe.model.context, ranks);
  text += fmt::format("FLOPs a step      {:.4e} at step 0, {:.4e} at the last\n",
                      flops_at(recipe, parts, linear, 0), flops_at(recipe, parts, linear, last));
  const StepWork work = step_work(recipe);
  text += fmt::format(
      "FLOPs of the run  {:.4e} over {} steps, {:.3e} {}\n", total, recipe.train.steps,
      static_cast<double>(work.amount) * static_cast<double>(recipe.train.steps), work.unit);
  return text;
}

}  // namespace hew::train
