#pragma once

#include <string>

#include "app/context.h"
#include "train/trained_model.h"

namespace hew {

/// load_trained_model, its warnings printed to standard error.
train::TrainedModel open_model(const std::string& path, const AppContext& context,
                               const Stream& stream);

}  // namespace hew
