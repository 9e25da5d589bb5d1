#pragma once

#include "optim/weight_average.h"
#include "train/model_setup.h"

namespace hew::train {

/// Whether the averages of train.ema move after so many steps.
bool average_is_due(const TrainConfig& train, std::int64_t steps);

/// Their decay then: 0 up to train.ema_warmup, so that they are the weights; at the t-th update
/// after it min(train.ema, (1 + t)/(10 + t)), the ramp that timm and TensorFlow know.
double average_decay(const TrainConfig& train, std::int64_t steps);

/// Puts averages where `model` has its weights and scores, in the storage and under the patterns
/// that `like` has: a model of the same recipe, or `model` itself. Memory is shared. Masks that
/// training moves are those of `like` until they are selected anew.
void take_averages(layers::Model& model, layers::Model& like, const optim::WeightAverage& average);

/// A model of the recipe, like `source` after so many steps, whose weights are the averages and
/// whose masks are selected by them (settle_masks); it shares their memory.
SparseModel averaged_model(const Recipe& recipe, const SparseModel& source,
                           const optim::WeightAverage& average, std::int64_t steps);

}  // namespace hew::train
