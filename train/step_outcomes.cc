#include "train/step_outcomes.h"

#include <cmath>
#include <utility>

#include "core/error.h"

namespace hew::train {

KnownOutcome StepOutcomes::read(dist::Communicator& comm, const Stream& stream) {
  const std::vector<StepOutcome> outcomes = std::exchange(unread_, {});
  for (const StepOutcome& outcome : outcomes) {
    Tensor loss = outcome.loss;
    comm.all_reduce(loss, dist::Reduction::kMean, stream);
  }
  KnownOutcome newest;
  for (const StepOutcome& outcome : outcomes) {
    const Tensor& loss = outcome.loss;
    newest = {.loss = loss.to_vector<double>().front(),
              .gradient_norm = outcome.norm.norm(),
              .learning_rate = outcome.learning_rate};
    require<Error>(std::isfinite(newest.loss), "[train] step {}: the loss is {}", outcome.step + 1,
                   newest.loss);
    const ag::Parameter* bad = outcome.norm.bad();
    require<Error>(bad == nullptr && std::isfinite(newest.gradient_norm),
                   "[train] step {}: the gradient of {} is not finite", outcome.step + 1,
                   bad == nullptr ? "the model" : bad->name);
  }
  return newest;
}

}  // namespace hew::train
