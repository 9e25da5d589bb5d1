#pragma once

#include <memory>
#include <vector>

#include "data/image_loader.h"
#include "train/image_evaluation.h"
#include "train/workload.h"

namespace hew::train {

/// Labelled images, and the cross entropy of their classes.
class ImageWorkload final : public Workload {
 public:
  /// Fills in recipe.model.classes. `comm` must outlive the workload. Throws ConfigError,
  /// DataError, also where the two sets have other classes, or images of another size than the
  /// recipe wants.
  ImageWorkload(Recipe& recipe, dist::Communicator& comm, const Stream& stream);

  const DataRecord& record() const override { return record_; }
  void require_record(const DataRecord& saved) const override;
  void start(std::uint64_t seed, std::int64_t position) override;
  std::vector<MicroBatch> next(const layers::Model& model) override;
  std::int64_t position() const override { return loader_->position(); }
  bool evaluates() const override { return evaluation_.images != nullptr; }
  EvaluationReport evaluate(const layers::Model& model,
                            const std::function<void()>& before_batch) const override;

 private:
  dist::Communicator& comm_;
  Stream stream_;
  ImageLoaderArgs loading_;         // but for seed and position
  ImageEvaluationArgs evaluation_;  // images null without any
  double label_smoothing_;
  DataRecord record_;
  std::unique_ptr<ImageLoader> loader_;  // null before start()
};

/// The classes that a recipe's model has for these images: the recipe's where it says, else theirs.
/// Throws ConfigError where the recipe's are fewer.
std::int64_t resolve_classes(const Recipe& recipe, const ImageSet& images);

}  // namespace hew::train
