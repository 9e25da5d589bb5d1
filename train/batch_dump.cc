#include "train/batch_dump.h"

#include <memory>
#include <span>
#include <vector>

#include "io/atomic_file.h"
#include "train/text_workload.h"

namespace hew::train {
namespace {

// Inputs and the last target of each row.
std::vector<std::int32_t> windows_of(const Batch& batch) {
  const std::vector<std::int32_t> inputs = batch.inputs.to_vector<std::int32_t>();
  const std::vector<std::int32_t> targets = batch.targets.to_vector<std::int32_t>();
  const std::int64_t context = batch.inputs.size(1);
  std::vector<std::int32_t> windows;
  windows.reserve(inputs.size() + static_cast<std::size_t>(batch.inputs.size(0)));
  auto row = inputs.begin();
  auto target = targets.begin();
  for (; row != inputs.end(); row += context, target += context) {
    windows.insert(windows.end(), row, row + context);
    windows.push_back(target[context - 1]);
  }
  return windows;
}

}  // namespace

void write_batches(const Recipe& recipe, std::int64_t steps, const std::filesystem::path& path) {
  const std::shared_ptr<const TokenCorpus> corpus =
      open_corpus(recipe.data.train, recipe.model.vocab);
  resolve_vocab(recipe, corpus->info());  // refuses what training refuses
  BatchLoader loader({.dataset = std::make_shared<const TokenDataset>(corpus, recipe.model.context),
                      .stream = make_cpu_stream(),
                      .seed = static_cast<std::uint64_t>(recipe.run.seed),
                      .global_batch = recipe.train.batch,
                      .micro_batch = recipe.train.batch,
                      .ranks = {},
                      .position = 0});
  AtomicFile file(path);
  for (std::int64_t step = 0; step < steps; ++step) {
    for (const Batch& batch : loader.next()) {
      const std::vector<std::int32_t> windows = windows_of(batch);
      file.write(std::as_bytes(std::span(windows)));
    }
  }
  file.commit();
}

}  // namespace hew::train
