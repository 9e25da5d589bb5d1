#pragma once

#include <string>
#include <vector>

#include "app/rank_device.h"
#include "train/trained_model.h"

namespace hew {

struct ImageEvalOptions {
  std::vector<std::string> data = {};  // empty: the recipe's data.valid
  std::int64_t batch = 1;
  bool json = false;             // one object instead of lines of text
  std::string dump_logits = {};  // a safetensors file for the first images and their logits
};

/// What a vision transformer makes of images: loss, top-1, top-5, and what its worst classes are
/// taken for, as text without a last newline; equal on all ranks. Collective. Throws ConfigError
/// where neither the options nor the recipe names images, and DataError.
std::string report_images(const train::TrainedModel& trained, const ImageEvalOptions& options,
                          const RankDevice& device);

}  // namespace hew
