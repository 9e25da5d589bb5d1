#include "train/image_workload.h"

#include "core/error.h"
#include "train/model_setup.h"

namespace hew::train {
namespace {

std::shared_ptr<const ImageSet> open_images(const std::vector<std::string>& patterns) {
  return patterns.empty() ? nullptr : open_image_set(patterns);
}

}  // namespace

ImageWorkload::ImageWorkload(Recipe& recipe, dist::Communicator& comm, const Stream& stream)
    : comm_(comm),
      stream_(stream),
      loading_{.images = open_images(recipe.data.train),
               .transform = recipe.data.image,
               .stream = stream,
               .classes = 0,
               .seed = 0,
               .global_batch = recipe.train.batch,
               .micro_batch = samples_at_a_time(recipe.train, comm.size()),
               .ranks = {.rank = comm.rank(), .world = comm.size()}},
      evaluation_{.images = open_images(recipe.data.valid),
                  .transform = recipe.data.image,
                  .batch = loading_.micro_batch,
                  .max_images = recipe.train.eval_batches * recipe.train.batch,
                  .dtype = activation_dtype(recipe.train.precision)},
      label_smoothing_(recipe.train.label_smoothing) {
  recipe.model.classes = resolve_classes(recipe, *loading_.images);
  loading_.classes = recipe.model.classes;
  record_ = {.classes = loading_.images->classes(), .digest = digest_of(*loading_.images)};
  if (!evaluation_.images)
    return;
  require<DataError>(evaluation_.images->classes() == record_.classes,
                     "{}: its classes are not those of {}", evaluation_.images->path(),
                     loading_.images->path());
  // Refuses images of a wrong size before the model is made.
  SequentialImages({.images = evaluation_.images,
                    .transform = evaluation_.transform,
                    .stream = stream_,
                    .micro_batch = 1});
}

void ImageWorkload::require_record(const DataRecord& saved) const {
  require<DataError>(saved.classes == record_.classes,
                     "{}: its classes are not those that the run was trained on",
                     loading_.images->path());
  require<DataError>(saved.digest.empty() || saved.digest == record_.digest,
                     "{}: its images are not those that the run was trained on",
                     loading_.images->path());
}

void ImageWorkload::start(std::uint64_t seed, std::int64_t position) {
  loading_.seed = seed;
  loading_.position = position;
  loader_ = std::make_unique<ImageLoader>(loading_);
}

std::vector<MicroBatch> ImageWorkload::next(const layers::Model& model) {
  const layers::VisionTransformer& vision = layers::as_vision_transformer(model);
  std::vector<MicroBatch> out;
  for (ImageBatch& batch : loader_->next()) {
    const std::int64_t first = batch.first_sample;
    out.push_back({.first_sample = first,
                   .loss = [&vision, smoothing = label_smoothing_, batch = std::move(batch)](
                               double scale, ag::ForwardContext& context) {
                     return vision.loss(batch.images, batch.targets,
                                        {.smoothing = smoothing, .scale = scale}, context);
                   }});
  }
  return out;
}

EvaluationReport ImageWorkload::evaluate(const layers::Model& model,
                                         const std::function<void()>& before_batch) const {
  ImageEvaluationArgs args = evaluation_;
  args.before_batch = before_batch;
  const ImageEvaluation result =
      evaluate_images(layers::as_vision_transformer(model), args, comm_, stream_);
  return {.text = to_string(result), .numbers = numbers_of(result)};
}

std::int64_t resolve_classes(const Recipe& recipe, const ImageSet& images) {
  const auto known = std::ssize(images.classes());
  const std::int64_t wanted = recipe.model.classes;
  require<ConfigError>(wanted == 0 || wanted >= known, "model.classes: {}, but {} has {}", wanted,
                       images.path(), known);
  return wanted > 0 ? wanted : known;
}

}  // namespace hew::train
