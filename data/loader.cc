#include "data/loader.h"

#include <algorithm>

#include "core/error.h"

namespace hew {
namespace {

constexpr std::size_t kStepsAhead = 2;

void check_ranks(RankOfWorld ranks) {
  require<ConfigError>(ranks.world >= 1 && ranks.rank >= 0 && ranks.rank < ranks.world,
                       "[loader] rank {} of {}", ranks.rank, ranks.world);
}

/// Rows of T + 1 tokens as inputs and the targets behind them.
Batch make_batch(std::span<const std::int32_t> rows, std::int64_t context, const Stream& stream) {
  const auto width = static_cast<std::size_t>(context) + 1;
  const std::size_t count = rows.size() / width;
  std::vector<std::int32_t> inputs;
  std::vector<std::int32_t> targets;
  inputs.reserve(rows.size());
  targets.reserve(rows.size());
  for (std::size_t i = 0; i < count; ++i) {
    const auto row = rows.subspan(i * width, width);
    inputs.insert(inputs.end(), row.begin(), row.end() - 1);
    targets.insert(targets.end(), row.begin() + 1, row.end());
  }
  const Shape shape{static_cast<std::int64_t>(count), context};
  return {.inputs = Tensor::from(inputs, shape, stream),
          .targets = Tensor::from(targets, shape, stream)};
}

}  // namespace

BatchLoader::BatchLoader(const BatchLoaderArgs& args) : args_(args) {
  check_ranks(args.ranks);
  require<ConfigError>(args.micro_batch > 0 && args.global_batch > 0 &&
                           args.global_batch % (args.ranks.world * args.micro_batch) == 0,
                       "[loader] global batch {}, expected a multiple of {} ranks x micro-batch {}",
                       args.global_batch, args.ranks.world, args.micro_batch);
  seek(args.position);
}

void BatchLoader::seek(std::int64_t position) {
  require<ConfigError>(position >= 0, "[loader] position {}, expected at least 0", position);
  reader_ = {};  // stops the thread and waits for it
  ready_.clear();
  position_ = position;
  reader_ =
      std::jthread([this, position](const std::stop_token& stop) { read_ahead(stop, position); });
}

BatchLoader::Step BatchLoader::read_step(std::int64_t position) const {
  const std::int64_t samples = args_.global_batch / args_.ranks.world;
  const std::int64_t first = position + args_.ranks.rank * samples;
  const auto width = static_cast<std::size_t>(args_.dataset->context()) + 1;
  Step step;
  try {
    step.tokens.resize(static_cast<std::size_t>(samples) * width);
    for (std::int64_t i = 0; i < samples; ++i) {
      const auto row = std::span(step.tokens).subspan(static_cast<std::size_t>(i) * width, width);
      args_.dataset->sample(args_.seed, first + i, row);
    }
  } catch (...) {
    step.error = std::current_exception();
  }
  return step;
}

void BatchLoader::read_ahead(const std::stop_token& stop, std::int64_t position) {
  for (bool failed = false; !failed; position += args_.global_batch) {
    Step step = read_step(position);
    failed = step.error != nullptr;
    std::unique_lock lock(mutex_);
    const bool room = changed_.wait(lock, stop, [&] { return ready_.size() < kStepsAhead; });
    if (!room || stop.stop_requested())
      return;
    ready_.push_back(std::move(step));
    changed_.notify_all();
  }
}

std::vector<Batch> BatchLoader::next() {
  Step step;
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return !ready_.empty(); });
    if (ready_.front().error)
      std::rethrow_exception(ready_.front().error);
    step = std::move(ready_.front());
    ready_.pop_front();
  }
  changed_.notify_all();
  const std::int64_t context = args_.dataset->context();
  const std::int64_t samples = args_.global_batch / args_.ranks.world;
  const auto micro_tokens = static_cast<std::size_t>(args_.micro_batch * (context + 1));
  std::vector<Batch> batches;
  for (std::int64_t i = 0; i < samples / args_.micro_batch; ++i) {
    const auto rows =
        std::span(step.tokens).subspan(static_cast<std::size_t>(i) * micro_tokens, micro_tokens);
    batches.push_back(make_batch(rows, context, args_.stream));
    batches.back().first_sample = position_ + args_.ranks.rank * samples + i * args_.micro_batch;
  }
  position_ += args_.global_batch;
  return batches;
}

SequentialBatches::SequentialBatches(std::shared_ptr<const TokenDataset> dataset,
                                     const Stream& stream, std::int64_t micro_batch,
                                     RankOfWorld ranks, std::optional<std::int64_t> max_windows)
    : dataset_(std::move(dataset)),
      stream_(stream),
      micro_batch_(micro_batch),
      windows_(std::min(dataset_->windows(), max_windows.value_or(dataset_->windows()))) {
  check_ranks(ranks);
  begin_ = windows_ * ranks.rank / ranks.world;
  end_ = windows_ * (ranks.rank + 1) / ranks.world;
  require<ConfigError>(micro_batch > 0 && windows_ > 0,
                       "[loader] micro-batch {} and {} windows, expected at least 1", micro_batch,
                       windows_);
  rounds_ = (windows_ - 1) / ranks.world / micro_batch + 1;
}

std::optional<Batch> SequentialBatches::next() {
  const std::int64_t count = std::min(micro_batch_, end_ - begin_);
  if (count == 0)
    return std::nullopt;
  const auto width = static_cast<std::size_t>(dataset_->context()) + 1;
  std::vector<std::int32_t> rows(static_cast<std::size_t>(count) * width);
  for (std::int64_t i = 0; i < count; ++i) {
    dataset_->window(begin_ + i,
                     std::span(rows).subspan(static_cast<std::size_t>(i) * width, width));
  }
  Batch batch = make_batch(rows, dataset_->context(), stream_);
  batch.first_sample = begin_;
  begin_ += count;
  return batch;
}

}  // namespace hew
