#include "train/workload.h"

#include "train/text_workload.h"

namespace hew::train {

std::unique_ptr<Workload> open_workload(Recipe& recipe, dist::Communicator& comm,
                                        const Stream& stream) {
  return std::make_unique<TextWorkload>(recipe, comm, stream);
}

void complete_model(Recipe& recipe) {
  if (recipe.model.vocab == 0)
    recipe.model.vocab = resolve_vocab(recipe, TokenCorpus::open(recipe.data.train).info());
}

}  // namespace hew::train
