#include "tests/train/refresh_scores.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <utility>

#include "autograd/variable.h"
#include "core/error.h"
#include "sparsity/block_norms.h"
#include "sparsity/block_scores.h"
#include "sparsity/schedule.h"
#include "train/workload.h"

namespace hew::test {
namespace {

std::size_t at(std::ptrdiff_t i) {
  return static_cast<std::size_t>(i);
}

// The gradients of the step after the checkpoint.
void backward(train::TrainedModel& trained) {
  const train::Progress& progress = trained.progress;
  dist::LocalCommunicator alone;
  const auto workload = train::open_workload(trained.recipe, alone, make_cpu_stream());
  workload->start(progress.rng_seed, progress.samples);
  const std::vector<train::MicroBatch> batches = workload->next(*trained.parts.model);
  for (const train::MicroBatch& batch : batches) {
    ag::ForwardContext context;
    context.training = true;
    context.seed = progress.rng_seed;
    context.step = progress.rng_step;
    context.first_sample = batch.first_sample - progress.samples;
    ag::backward(batch.loss(1.0 / static_cast<double>(batches.size()), context));
  }
}

RefreshScores scores_of(const sparsity::Sparsifier& sparsifier,
                        const sparsity::Sparsifier::Target& target, std::int64_t step) {
  const sparsity::SparsityRule& rule = sparsifier.rules()[target.rule];
  sparsity::LinearWeight& weight = *target.weight;
  const sparsity::BsrPattern& pattern = *weight.pattern();
  sparsity::BlockNorms norms;
  const std::size_t own = norms.add_live(weight, weight.parameter().value());
  const bool last = step >= rule.schedule.end.step;
  const std::size_t all = last ? own : norms.add(weight.dense_gradient(), pattern.grid());
  norms.compute();
  norms.read(make_cpu_stream());
  RefreshScores out;
  out.name = weight.name();
  out.weight = spread(pattern, norms[own]);
  if (!last)
    out.growth = norms[all];
  const sparsity::MaskBytes before = pattern.mask();
  sparsity::RefreshInput input{
      .live = before,
      .score = out.weight,
      .growth = out.growth,
      .wanted =
          sparsity::live_blocks(pattern.grid().blocks(), sparsifier.wanted_sparsity(target, step)),
      .swap_fraction = sparsity::swap_fraction_at(rule, step)};
  out.kept = prune_and_grow(input);
  input.regrow = last ? sparsity::Regrow::kNone : rule.regrow;
  out.live = prune_and_grow(input);
  out.swaps = static_cast<std::int64_t>(input.swap_fraction * static_cast<double>(input.wanted));
  return out;
}

}  // namespace

double RefreshScores::typical_gradient() const {
  if (growth.empty())
    return 0;
  const double sum = std::inner_product(growth.begin(), growth.end(), growth.begin(), 0.0);
  return std::sqrt(sum / static_cast<double>(growth.size()));
}

std::string RefreshScores::unexplained(const sparsity::MaskBytes& other, double error,
                                       double weight_error) const {
  std::vector<double> kept_norms;  // descending
  double weakest_grown = std::numeric_limits<double>::max();
  for (std::size_t i = 0; i < live.size(); ++i) {
    if (kept[i] != 0)
      kept_norms.push_back(weight[i]);
    else if (live[i] != 0)
      weakest_grown = std::min(weakest_grown, growth[i]);
  }
  std::ranges::sort(kept_norms, std::greater());
  const std::size_t k = kept_norms.size();
  require<Error>(k > 0 && std::cmp_less(swaps, k), "{}: {} swaps of {} blocks", name, swaps, k);
  // Who grows is one of the k best by growth, of which there may be fewer that are not kept.
  std::vector<double> best = growth;
  std::ranges::sort(best, std::greater());
  const double weakest_best = best.empty() ? 0 : best[k - 1];
  const auto swapped = [&](const auto& is_best) {
    std::int64_t count = 0;
    for (std::size_t i = 0; i < growth.size(); ++i) count += kept[i] == 0 && is_best(growth[i]);
    return at(std::min(count, swaps));
  };
  const double typical = typical_gradient();
  const auto near = [=](double a, double b) {
    return std::abs(a - b) <= error * (std::max(a, typical) + std::max(b, typical));
  };
  const std::size_t fewest =
      swapped([&](double g) { return g >= weakest_best && !near(g, weakest_best); });
  const std::size_t most =
      swapped([&](double g) { return g >= weakest_best || near(g, weakest_best); });
  const auto may_differ = [&](std::size_t i) {
    if (kept[i] == 0)
      return most > 0 && (near(growth[i], weakest_grown) || near(growth[i], weakest_best));
    return most > 0 && weight[i] <= kept_norms[k - most] * (1 + 2 * weight_error) &&
           weight[i] >= kept_norms[k - fewest - 1] * (1 - 2 * weight_error);
  };
  std::string text;
  for (std::size_t i = 0; i < live.size(); ++i) {
    if (other[i] != live[i] && !may_differ(i))
      text += fmt::format("{}: block {} is {}\n", name, i, other[i] != 0 ? "live" : "dead");
  }
  return text;
}

std::vector<RefreshScores> refresh_scores(const std::filesystem::path& checkpoint,
                                          const std::function<void(train::TrainedModel&)>& change) {
  train::TrainedModel trained = train::load_trained_model(checkpoint, make_cpu_stream());
  if (change)
    change(trained);
  sparsity::Sparsifier& sparsifier = *trained.parts.sparsifier;
  const std::int64_t step = trained.progress.steps;
  sparsifier.begin_step(step);
  backward(trained);
  std::vector<RefreshScores> out;
  for (const sparsity::Sparsifier::Target& target : sparsifier.targets())
    out.push_back(scores_of(sparsifier, target, step));
  return out;
}

}  // namespace hew::test
