#include "train/stored_model.h"

#include <map>
#include <set>

#include "kernels/bsr_route.h"
#include "kernels/bsr_schedule.h"
#include "sparsity/selection.h"

namespace hew::train {
namespace {

bool learned(const sparsity::SparsityRule& rule) {
  return rule.score == sparsity::Score::kLearned;
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

// A parameter, as it is stored at `step`.
StoredParameter stored_parameter(const Recipe& recipe, int ranks,
                                 const sparsity::Sparsifier& sparsifier, const ParameterRow& row,
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

}  // namespace

bool grows_at(const sparsity::SparsityRule& rule, std::int64_t step) {
  return rule.growth != sparsity::Growth::kNone && rule.regrow != sparsity::Regrow::kNone &&
         step < rule.schedule.end.step;
}

std::int64_t wanted_live(const sparsity::Sparsifier& sparsifier, const ParameterRow& row,
                         std::int64_t step) {
  const double sparsity = sparsifier.wanted_sparsity(*row.target, step);
  const std::int64_t blocks = row.grid.blocks();
  return learned(sparsifier.rules()[row.target->rule]) ? sparsity::kept_blocks(blocks, sparsity)
                                                       : sparsity::live_blocks(blocks, sparsity);
}

std::vector<ParameterRow> parameter_rows(const SparseModel& parts) {
  std::map<std::string, const sparsity::Sparsifier::Target*> targets;
  for (const sparsity::Sparsifier::Target& target : parts.sparsifier->targets()) {
    targets[target.weight->name()] = &target;
  }
  std::vector<ParameterRow> rows;
  for (const ag::Parameter* parameter : parts.model->parameters()) {
    ParameterRow row{.name = parameter->name, .shape = parameter->value().shape(), .grid = {}};
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

StoredModel stored_model(const Recipe& recipe, int ranks, const SparseModel& parts,
                         const std::vector<ParameterRow>& rows, std::int64_t step) {
  StoredModel out;
  out.dense_mlps = recipe.model.layers;
  std::set<std::string> sparse_mlps;
  for (const ParameterRow& row : rows) {
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

}  // namespace hew::train
