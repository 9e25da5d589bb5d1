#include "data/image_loader.h"

#include <algorithm>

#include "core/error.h"
#include "data/image_mix.h"
#include "data/image_transform.h"
#include "data/shuffle.h"

namespace hew {
namespace {

void check_ranks(RankOfWorld ranks) {
  require<ConfigError>(ranks.world >= 1 && ranks.rank >= 0 && ranks.rank < ranks.world,
                       "[image loader] rank {} of {}", ranks.rank, ranks.world);
}

/// Where sample `position` of the endless sequence of epochs lies in the set.
std::int64_t shuffled_image(const ImageSet& images, std::uint64_t seed, std::int64_t position) {
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

/// So that a wrong size is found before the first step.
void require_sizes(const ImageSet& images, const ImageTransform& transform, std::int64_t count) {
  const std::int64_t different = images.shape() ? 1 : count;
  for (std::int64_t i = 0; i < different; ++i) {
    with_name(images, i, [&] { transform.require_size(images.shape_of(i)); });
  }
}

Tensor to_device(Upload& upload, std::span<const float> slots, std::int64_t count,
                 const ImageTransformConfig& config) {
  const Shape shape{count, config.channels, config.size, config.size};
  return upload.to_device(slots.first(static_cast<std::size_t>(shape.numel())), shape);
}

}  // namespace

ImageLoader::ImageLoader(const ImageLoaderArgs& args) : args_(args), upload_(args.stream) {
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
  require<ConfigError>(args.global_batch % args.transform.repeats == 0,
                       "data.image.repeats: {}, expected a divisor of the batch, {}",
                       args.transform.repeats, args.global_batch);
  require_sizes(*args.images, ImageTransform(args.transform), args.images->size());
  seek(args.position);
}

void ImageLoader::seek(std::int64_t position) {
  require<ConfigError>(position >= 0 && position % args_.transform.repeats == 0,
                       "[image loader] position {}, expected a multiple of {} repeats, at least 0",
                       position, args_.transform.repeats);
  reader_ = nullptr;  // stops its threads
  position_ = position;
  reader_ = std::make_unique<ImageReadAhead>(plan(), args_.threads);
}

std::int64_t ImageLoader::image_of(std::int64_t first, std::int64_t sample) const {
  const std::int64_t repeats = args_.transform.repeats;
  const std::int64_t different = args_.global_batch / repeats;
  return shuffled_image(*args_.images, args_.seed, first / repeats + sample % different);
}

bool ImageLoader::is_mixed() const {
  return args_.transform.mixup > 0 || args_.transform.cutmix > 0;
}

ImageStepPlan ImageLoader::plan() const {
  const auto transform = std::make_shared<const ImageTransform>(args_.transform);
  const std::int64_t samples = rank_samples();
  const std::int64_t start = position_;
  // Behind this rank's samples, the one that the first of them is mixed with. A rank alone has it.
  const std::int64_t extra = is_mixed() && args_.ranks.world > 1 ? 1 : 0;
  ImageStepPlan plan;
  plan.slot_floats = transform->numel();
  plan.slots = [samples, extra](std::int64_t) { return samples + extra; };
  plan.fill = [this, transform, samples, start](std::int64_t step, std::int64_t slot,
                                                std::span<float> out) {
    const std::int64_t first = start + step * args_.global_batch;
    const std::int64_t sample =
        slot < samples ? args_.ranks.rank * samples + slot : partner_of(args_.ranks.rank * samples);
    const std::int64_t i = image_of(first, sample);
    with_name(*args_.images, i, [&] {
      transform->train(args_.images->read(i), {args_.seed, first + sample}, out);
    });
  };
  if (is_mixed()) {
    plan.finish = [this, start](std::int64_t step, std::span<float> slots) {
      mix(start + step * args_.global_batch, slots);
    };
  }
  return plan;
}

void ImageLoader::mix(std::int64_t first, std::span<float> slots) const {
  const ImageMix mix = draw_mix(args_.transform, {args_.seed, first});
  const std::int64_t samples = rank_samples();
  const std::int64_t size = args_.transform.size;
  const auto floats = static_cast<std::size_t>(args_.transform.channels * size * size);
  const auto slot = [&](std::int64_t i) {
    return slots.subspan(static_cast<std::size_t>(i) * floats, floats);
  };
  // From the last on, so that every partner is still as it was.
  const auto last = slot(std::ssize(slots) / static_cast<std::int64_t>(floats) - 1);
  const std::vector<float> partner_of_first(last.begin(), last.end());
  for (std::int64_t i = samples - 1; i > 0; --i) mix_images(mix, slot(i), slot(i - 1), size);
  mix_images(mix, slot(0), partner_of_first, size);
}

std::vector<float> ImageLoader::targets(std::int64_t begin, std::int64_t count) const {
  const ImageMix mix = is_mixed() ? draw_mix(args_.transform, {args_.seed, position_}) : ImageMix{};
  std::vector<float> values(static_cast<std::size_t>(count * args_.classes));
  const auto add = [&](std::int64_t row, std::int64_t sample, double weight) {
    const std::int64_t label = args_.images->label(image_of(position_, sample));
    values[static_cast<std::size_t>(row * args_.classes + label)] += static_cast<float>(weight);
  };
  for (std::int64_t i = 0; i < count; ++i) {
    add(i, begin + i, mix.own);
    if (mix.own < 1)
      add(i, partner_of(begin + i), 1 - mix.own);
  }
  return values;
}

std::vector<ImageBatch> ImageLoader::next() {
  std::vector<float> slots = reader_->take();
  const std::int64_t micro = args_.micro_batch;
  const Tensor images = to_device(upload_, slots, rank_samples(), args_.transform);
  reader_->give_back(std::move(slots));
  std::vector<ImageBatch> batches;
  for (std::int64_t i = 0; i < rank_samples() / micro; ++i) {
    const std::int64_t begin = args_.ranks.rank * rank_samples() + i * micro;
    batches.push_back(
        {.images = images.rows(i * micro, micro),
         .targets = Tensor::from(targets(begin, micro), Shape{micro, args_.classes}, args_.stream),
         .first_sample = position_ + begin});
  }
  position_ += args_.global_batch;
  return batches;
}

SequentialImages::SequentialImages(const SequentialImagesArgs& args)
    : args_(args),
      upload_(args.stream),
      total_(std::min(args.images->size(), args.max_images.value_or(args.images->size()))) {
  check_ranks(args.ranks);
  require<ConfigError>(args.micro_batch > 0 && total_ > 0,
                       "[image loader] micro-batch {} and {} images, expected at least 1",
                       args.micro_batch, total_);
  rounds_ = (total_ - 1) / args.ranks.world / args.micro_batch + 1;
  next_ = total_ * args.ranks.rank / args.ranks.world;
  end_ = total_ * (args.ranks.rank + 1) / args.ranks.world;
  const auto transform = std::make_shared<const ImageTransform>(args.transform);
  require_sizes(*args.images, *transform, total_);
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
  LabelledImages batch{.images = to_device(upload_, slots, count, args_.transform),
                       .labels = Tensor::from(labels, Shape{count}, args_.stream),
                       .first = next_};
  reader_->give_back(std::move(slots));
  next_ += count;
  return batch;
}

}  // namespace hew
