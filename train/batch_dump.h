#pragma once

#include <cstdint>
#include <filesystem>

#include "train/recipe.h"

namespace hew::train {

/// Writes the windows that training steps 1 … `steps` of this recipe see, in their order: int32
/// little-endian [steps, train.batch, model.context + 1], nothing in front; of each row the first
/// `context` are inputs, the last `context` targets. An older file of the name is replaced. Throws
/// ConfigError, DataError.
void write_batches(const Recipe& recipe, std::int64_t steps, const std::filesystem::path& path);

}  // namespace hew::train
