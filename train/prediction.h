#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/image_set.h"
#include "train/trained_model.h"

namespace hew::train {

struct ClassProbability {
  std::int64_t label = 0;
  std::string name;  // the number as text where the training data had no names
  double probability = 0;
};

/// The `top` most probable classes of each image, the most probable first, of equals the lower
/// label. Images are prepared as for evaluation by recipe.data.image; where that takes only one
/// size, another one is resized and its middle cut out. `batch` images are computed at a time.
/// Throws ConfigError where the model is no vision transformer.
std::vector<std::vector<ClassProbability>> predict(const TrainedModel& trained,
                                                   const std::vector<DecodedImage>& images,
                                                   std::int64_t top, std::int64_t batch,
                                                   const Stream& stream);

}  // namespace hew::train
