#include "train/workload.h"

#include "train/image_workload.h"
#include "train/text_workload.h"

namespace hew::train {

StepWork step_work(const Recipe& recipe) {
  if (recipe.model.reads_images())
    return {.unit = "images", .amount = recipe.train.batch};
  return {.unit = "tokens", .amount = recipe.train.batch * recipe.model.context};
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
