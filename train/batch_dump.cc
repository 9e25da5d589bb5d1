#include "train/batch_dump.h"

#include <memory>
#include <span>
#include <string_view>
#include <system_error>
#include <vector>

#include "core/error.h"
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

double bytes_of_step(const Recipe& recipe) {
  return static_cast<double>(recipe.train.batch) * static_cast<double>(recipe.model.context + 1) *
         sizeof(std::int32_t);
}

void require_room(const AtomicFile& file, double bytes) {
  std::error_code unknown;  // then writing will tell
  const std::filesystem::space_info space = std::filesystem::space(file.temporary(), unknown);
  require<DataError>(unknown || bytes <= static_cast<double>(space.available),
                     "{}: takes {:.3g} GB, its file system has room for {:.3g}",
                     file.path().string(), bytes * 1e-9,
                     static_cast<double>(space.available) * 1e-9);
}

}  // namespace

void write_batches(const Recipe& recipe, std::int64_t steps, const std::filesystem::path& path,
                   const StopSignal& stop_signal) {
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
  require_room(file, static_cast<double>(steps) * bytes_of_step(recipe));
  for (std::int64_t step = 0; step < steps; ++step) {
    const std::string_view signal = stop_signal.poll_urgent();
    require<Error>(signal.empty(), "{}: not written, stopped by {}", path.string(), signal);
    for (const Batch& batch : loader.next()) {
      const std::vector<std::int32_t> windows = windows_of(batch);
      file.write(std::as_bytes(std::span(windows)));
    }
  }
  file.commit();
}

}  // namespace hew::train
