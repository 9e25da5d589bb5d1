#include "data/image_loader.h"

#include <algorithm>

#include "core/error.h"
#include "data/image_transform.h"
#include "data/shuffle.h"

namespace hew {
namespace {

void check_ranks(RankOfWorld ranks) {
  require<ConfigError>(ranks.world >= 1 && ranks.rank >= 0 && ranks.rank < ranks.world,
                       "[image loader] rank {} of {}", ranks.rank, ranks.world);
}

/// Where sample `position` of the endless sequence of epochs lies in the set.
std::int64_t image_of(const ImageSet& images, std::uint64_t seed, std::int64_t position) {
  const std::int64_t n = images.size();
  return shuffled(seed, position / n, n, position % n);
}

/// `action` with the image's name in front of what it throws.
template <class Action>
void with_name(const ImageSet& images, std::int64_t i, const Action& action) {
  try {
    action();
  } catch (const DataError& error) {
    const std::string name = images.name(i);
    if (std::string_view(error.what()).starts_with(name))
      throw;
    throw DataError(fmt::format("{}: {}", name, error.what()));
  }
}

Tensor to_tensor(std::span<const float> values, std::int64_t count,
                 const ImageTransformConfig& config, const Stream& stream) {
  return Tensor::from(values, Shape{count, config.channels, config.size, config.size}, stream);
}

}  // namespace

ImageLoader::ImageLoader(const ImageLoaderArgs& args) : args_(args) {
  check_ranks(args.ranks);
  check_image_transform(args.transform);
  const auto known = std::ssize(args.images->classes());
  require<DataError>(known <= args.classes, "{}: images of {} classes, the model knows {}",
                     args.images->path(), known, args.classes);
  require<ConfigError>(args.micro_batch > 0 && args.global_batch > 0 &&
                           args.global_batch % (args.ranks.world * args.micro_batch) == 0,
                       "[image loader] global batch {}, expected a multiple of {} ranks x "
                       "micro-batch {}",
                       args.global_batch, args.ranks.world, args.micro_batch);
  seek(args.position);
}

void ImageLoader::seek(std::int64_t position) {
  require<ConfigError>(position >= 0, "[image loader] position {}, expected at least 0", position);
  reader_ = nullptr;  // stops its threads
  position_ = position;
  const auto transform = std::make_shared<const ImageTransform>(args_.transform);
  const std::int64_t samples = rank_samples();
  const std::int64_t first = position + args_.ranks.rank * samples;
  ImageStepPlan plan;
  plan.slot_floats = transform->numel();
  plan.slots = [samples](std::int64_t) { return samples; };
  plan.fill = [transform, first, images = args_.images, seed = args_.seed,
               global = args_.global_batch](std::int64_t step, std::int64_t slot,
                                            std::span<float> out) {
    const std::int64_t sample = first + step * global + slot;
    const std::int64_t i = image_of(*images, seed, sample);
    with_name(*images, i, [&] { transform->train(images->read(i), seed, sample, out); });
  };
  reader_ = std::make_unique<ImageReadAhead>(std::move(plan), args_.threads);
}

std::vector<ImageBatch> ImageLoader::next() {
  std::vector<float> slots = reader_->take();
  const std::int64_t samples = rank_samples();
  const std::int64_t micro = args_.micro_batch;
  const std::size_t floats = slots.size() / static_cast<std::size_t>(samples);
  std::vector<ImageBatch> batches;
  for (std::int64_t begin = 0; begin < samples; begin += micro) {
    ImageBatch& batch = batches.emplace_back();
    batch.first_sample = position_ + args_.ranks.rank * samples + begin;
    batch.images = to_tensor(std::span(slots).subspan(static_cast<std::size_t>(begin) * floats,
                                                      static_cast<std::size_t>(micro) * floats),
                             micro, args_.transform, args_.stream);
    std::vector<float> targets(static_cast<std::size_t>(micro * args_.classes));
    for (std::int64_t i = 0; i < micro; ++i) {
      const std::int64_t image = image_of(*args_.images, args_.seed, batch.first_sample + i);
      targets[static_cast<std::size_t>(i * args_.classes + args_.images->label(image))] = 1.0F;
    }
    batch.targets = Tensor::from(targets, Shape{micro, args_.classes}, args_.stream);
  }
  reader_->give_back(std::move(slots));
  position_ += args_.global_batch;
  return batches;
}

SequentialImages::SequentialImages(const SequentialImagesArgs& args)
    : args_(args),
      total_(std::min(args.images->size(), args.max_images.value_or(args.images->size()))) {
  check_ranks(args.ranks);
  require<ConfigError>(args.micro_batch > 0 && total_ > 0,
                       "[image loader] micro-batch {} and {} images, expected at least 1",
                       args.micro_batch, total_);
  next_ = total_ * args.ranks.rank / args.ranks.world;
  end_ = total_ * (args.ranks.rank + 1) / args.ranks.world;
  const auto transform = std::make_shared<const ImageTransform>(args.transform);
  ImageStepPlan plan;
  plan.slot_floats = transform->numel();
  plan.slots = [begin = next_, end = end_, micro = args.micro_batch](std::int64_t step) {
    return std::clamp<std::int64_t>(end - begin - step * micro, 0, micro);
  };
  plan.fill = [transform, images = args.images, begin = next_, micro = args.micro_batch](
                  std::int64_t step, std::int64_t slot, std::span<float> out) {
    const std::int64_t i = begin + step * micro + slot;
    with_name(*images, i, [&] { transform->evaluate(images->read(i), out); });
  };
  reader_ = std::make_unique<ImageReadAhead>(std::move(plan), args.threads);
}

std::optional<LabelledImages> SequentialImages::next() {
  const std::int64_t count = std::min(args_.micro_batch, end_ - next_);
  if (count == 0)
    return std::nullopt;
  std::vector<float> slots = reader_->take();
  std::vector<std::int32_t> labels;
  for (std::int64_t i = 0; i < count; ++i) {
    labels.push_back(static_cast<std::int32_t>(args_.images->label(next_ + i)));
  }
  LabelledImages batch{.images = to_tensor(slots, count, args_.transform, args_.stream),
                       .labels = Tensor::from(labels, Shape{count}, args_.stream),
                       .first = next_};
  reader_->give_back(std::move(slots));
  next_ += count;
  return batch;
}

}  // namespace hew
