#include "train/averaged_model.h"

#include <algorithm>
#include <set>

namespace hew::train {

bool average_is_due(const TrainConfig& train, std::int64_t steps) {
  return train.ema > 0 && steps % train.ema_every == 0;
}

double average_decay(const TrainConfig& train, std::int64_t steps) {
  if (steps <= train.ema_warmup.step)
    return 0;
  const std::int64_t since = steps / train.ema_every - train.ema_warmup.step / train.ema_every;
  const auto updates = static_cast<double>(since);
  constexpr double kLag = 10;
  return std::min(train.ema, (1 + updates) / (kLag + updates));
}

void take_averages(layers::Model& model, layers::Model& like, const optim::WeightAverage& average) {
  std::set<std::string> done;
  const std::vector<sparsity::LinearWeight*> sources = like.linear_weights();
  const std::vector<sparsity::LinearWeight*> weights = model.linear_weights();
  for (std::size_t i = 0; i < weights.size(); ++i) {
    sparsity::LinearWeight& source = *sources[i];
    const std::string scores = source.has_scores() ? source.scores().name : "";
    weights[i]->restore(source.storage(), source.pattern(), average[source.name()],
                        scores.empty() ? Tensor() : average[scores]);
    done.insert({source.name(), scores});
  }
  for (ag::Parameter* parameter : model.parameters()) {
    if (!done.contains(parameter->name))
      parameter->var = ag::Variable(average[parameter->name], /*requires_grad=*/true);
  }
}

SparseModel averaged_model(const Recipe& recipe, const SparseModel& source,
                           const optim::WeightAverage& average, std::int64_t steps) {
  const Stream& stream = source.model->parameters().front()->var.stream();
  SparseModel parts = build_model(recipe, stream, Build::kShapesOnly);
  take_averages(*parts.model, *source.model, average);
  settle_masks(parts, steps);
  return parts;
}

}  // namespace hew::train
