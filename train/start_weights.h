#pragma once

#include <string>

#include "train/trained_model.h"

namespace hew::train {

/// Copies the weights of `from` into a model of the same shape, dead blocks as zeros, whatever
/// device and floating type either is in.
void copy_weights(const TrainedModel& from, layers::Model& to);

/// Gives a new model, still dense, the weights that recipe.start.init names: a run, a checkpoint,
/// or what `hew export` or `hew import` wrote. `data` is the training data's. Returns what
/// there is to say. Throws DataError where that model has another shape, naming the keys, was
/// trained with another tokenizer, or has another name for a class; numbers are no names.
std::string start_from_init(const Recipe& recipe, const DataRecord& data, layers::Model& model);

}  // namespace hew::train
