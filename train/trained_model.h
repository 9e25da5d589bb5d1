#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "train/checkpoint.h"
#include "train/model_setup.h"

namespace hew::train {

/// A model read from a file, ready to evaluate: its weights are the averages where the run had
/// train.ema, and masks that training moves are selected.
struct TrainedModel {
  Recipe recipe;
  Progress progress;  // from an export: steps and flops only
  DataRecord data;
  std::string file;
  std::vector<std::string> warnings;  // such as broken checkpoints that were passed over
  SparseModel parts;
};

/// Reads the newest whole checkpoint of a run directory, a checkpoint file, or a whole model that
/// `hew export` wrote as bsr-hdf5 or safetensors, in the precision the run was trained in. Files
/// are told apart by their first bytes. Throws DataError.
TrainedModel load_trained_model(const std::filesystem::path& path, const Stream& stream);

}  // namespace hew::train
