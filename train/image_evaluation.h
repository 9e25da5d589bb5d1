#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "data/image_loader.h"
#include "dist/comm.h"
#include "layers/vision_transformer.h"

namespace hew::train {

/// What a model makes of held-out images.
struct ImageEvaluation {
  std::int64_t images = 0;
  double loss = 0;  // mean cross entropy over images, nats, without label smoothing
  double top1 = 0;  // share of images whose class has the largest logit
  double top5 = 0;  // or one of the five largest; of equal logits the lower class comes first
  // [classes, classes]: images of the row's class whose largest logit is the column's. Empty where
  // it was not asked for.
  std::vector<std::int64_t> confusion;

  std::int64_t classes() const;  // of confusion
};

/// "loss 0.2810 nats/image  top-1 89.93 %  top-5 99.71 %  (10000 images)"
std::string to_string(const ImageEvaluation& evaluation);
/// loss, top1, top5 and images by their names.
nlohmann::ordered_json numbers_of(const ImageEvaluation& evaluation);

/// How one class fares.
struct ClassAccuracy {
  std::int64_t label = 0;
  std::int64_t images = 0;
  double accuracy = 0;
  struct Mistake {
    std::int64_t label = 0;  // what its images were taken for
    double share = 0;        // of them
  };
  std::vector<Mistake> mistakes;  // most frequent first, three at most
};
/// The `count` classes of the lowest accuracy by `confusion`, the worst first; those without images
/// are left out.
std::vector<ClassAccuracy> worst_classes(const ImageEvaluation& evaluation, std::int64_t count);

struct ImageEvaluationArgs {
  std::shared_ptr<const ImageSet> images;
  ImageTransformConfig transform;
  std::int64_t batch = 1;           // images computed at a time on each rank
  std::int64_t max_images = 0;      // the first so many; 0: all
  std::optional<DType> dtype = {};  // of activations; that of the weights if not given
  bool confusion = false;  // whether to count what classes are taken for, classes² numbers
  // Called before every batch, as often on all ranks; what it throws ends the evaluation.
  std::function<void()> before_batch = {};
};

/// The model on the images, each its middle, split over the ranks; every rank gets the same result.
/// Throws DataError, also where the set has more classes than the model. A logit that is not finite
/// makes its image a mistake and the loss NaN. Collective.
ImageEvaluation evaluate_images(const layers::VisionTransformer& model,
                                const ImageEvaluationArgs& args, dist::Communicator& comm,
                                const Stream& stream);

}  // namespace hew::train
