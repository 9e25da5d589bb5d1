#pragma once

#include <cstdint>
#include <filesystem>

#include "train/recipe.h"
#include "train/stop_signal.h"

namespace hew::train {

/// Writes the windows that training steps 1 … `steps` of this recipe see, in their order: int32
/// little-endian [steps, train.batch, model.context + 1], nothing in front; of each row the first
/// `context` are inputs, the last `context` targets. An older file of the name is replaced. Throws
/// ConfigError; DataError, also where the file system has no room; Error once a signal says to
/// stop.
void write_batches(const Recipe& recipe, std::int64_t steps, const std::filesystem::path& path,
                   const StopSignal& stop_signal);

}  // namespace hew::train
