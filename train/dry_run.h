#pragma once

#include <optional>
#include <string>

#include "core/stream.h"
#include "train/memory_check.h"
#include "train/recipe.h"

namespace hew::train {

/// What a recipe would train, without allocating it: the layer table (parameter, shape, elements,
/// block, wanted live blocks over the schedule), an estimate of the memory that each of `ranks`
/// ranks needs at the first and the last step (train/memory_estimate.h), whether that is more than
/// there is `here` (nothing: not compared), and FLOPs a step and in all. Where blocks regrow as a
/// union, more are live between refreshes than are wanted. What the recipe leaves open is read from
/// the data. Throws ConfigError, DataError.
std::string dry_run_report(Recipe recipe, int ranks, const Stream& stream,
                           const std::optional<DeviceMemory>& here = {});

}  // namespace hew::train
