#pragma once

#include <cstdint>
#include <vector>

#include "dist/comm.h"
#include "train/rank_optimizer.h"

namespace hew::train {

/// What a training step leaves on the device: nobody waits for it until somebody wants to know.
struct StepOutcome {
  std::int64_t step = 0;  // from 0
  Tensor loss;            // float64 [1]: this rank's mean
  SlicedNorm norm;
  double learning_rate = 0;
};

/// The outcome of the newest step, on the host.
struct KnownOutcome {
  double loss = 0;  // mean over ranks
  double gradient_norm = 0;
  double learning_rate = 0;
};

/// Outcomes of the steps since somebody last wanted to know.
class StepOutcomes {
 public:
  void add(StepOutcome outcome) { unread_.push_back(std::move(outcome)); }
  bool empty() const { return unread_.empty(); }

  /// Waits for the device, forgets what it knew, and returns the newest outcome; collective. Throws
  /// Error naming the first step whose loss or gradient was not finite, and the gradient's
  /// parameter. Such a step has left the weights as they were.
  KnownOutcome read(dist::Communicator& comm, const Stream& stream);

 private:
  std::vector<StepOutcome> unread_;
};

}  // namespace hew::train
