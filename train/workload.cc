#include "train/workload.h"

#include "core/error.h"
#include "core/host_memory.h"
#include "train/image_workload.h"
#include "train/text_workload.h"

namespace hew::train {

StepWork step_work(const Recipe& recipe) {
  if (recipe.model.reads_images())
    return {.unit = "images", .amount = recipe.train.batch};
  return {.unit = "tokens", .amount = recipe.train.batch * recipe.model.context};
}

void require_batch_fits(const Recipe& recipe, int ranks) {
  const bool images = recipe.model.reads_images();
  const auto number = [](std::int64_t n) { return static_cast<double>(n); };
  const double width = number(recipe.data.image.size);
  const double sample_bytes =
      images ? number(recipe.data.image.channels) * width * width * sizeof(float)
             : number(recipe.model.context) * sizeof(std::int32_t);
  const double bytes = number(recipe.train.batch) / ranks * sample_bytes;
  const double memory = number(host_memory_bytes());
  constexpr double kGiB = 1 << 30;
  require<ConfigError>(
      bytes <= memory,
      "train.batch: the samples of {} alone are {:.1f} GiB a rank, and this machine "
      "has {:.1f}",
      recipe.train.batch, bytes / kGiB, memory / kGiB);
}

std::unique_ptr<Workload> open_workload(Recipe& recipe, dist::Communicator& comm,
                                        const Stream& stream) {
  if (recipe.model.reads_images())
    return std::make_unique<ImageWorkload>(recipe, comm, stream);
  return std::make_unique<TextWorkload>(recipe, comm, stream);
}

void complete_model(Recipe& recipe) {
  if (recipe.model.reads_images()) {
    if (recipe.model.classes == 0)
      recipe.model.classes = resolve_classes(recipe, *open_image_set(recipe.data.train));
  } else if (recipe.model.vocab == 0) {
    recipe.model.vocab = resolve_vocab(recipe, TokenCorpus::open(recipe.data.train).info());
  }
}

}  // namespace hew::train
