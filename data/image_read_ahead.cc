#include "data/image_read_ahead.h"

#include <sched.h>

#include <algorithm>

namespace hew {
namespace {

constexpr std::size_t kStepsAhead = 2;
// Slots that a thread takes on at a time: small images are made faster than a lock changes hands.
constexpr std::int64_t kMostSlots = 8;

}  // namespace

ImageReadAhead::ImageReadAhead(ImageStepPlan plan, int threads)
    : plan_(std::move(plan)), threads_(threads > 0 ? threads : default_decoding_threads()) {
  for (std::int64_t i = 0; i < threads_; ++i) {
    pool_.emplace_back([this](const std::stop_token& stop) { work(stop); });
  }
}

ImageReadAhead::~ImageReadAhead() {
  // All at once, where the pool's own end would stop one after another.
  for (std::jthread& thread : pool_) thread.request_stop();
}

/// Needs the lock. Null where there is nothing to do until another step is taken.
ImageReadAhead::Step* ImageReadAhead::step_to_work_on() {
  for (const auto& step : steps_) {
    if (step->begun < step->count)
      return step.get();
  }
  if (ended_ || steps_.size() >= kStepsAhead)
    return nullptr;
  auto step = std::make_unique<Step>();
  step->number = next_number_++;
  try {
    step->count = plan_.slots(step->number);
    ended_ = step->count == 0;
    if (ended_)
      return nullptr;
    if (!spare_.empty()) {
      step->slots = std::move(spare_.back());
      spare_.pop_back();
    }
    step->slots.resize(static_cast<std::size_t>(step->count * plan_.slot_floats));
  } catch (...) {
    step->error = std::current_exception();
    step->begun = step->done = step->count;
    step->ready = true;
    ended_ = true;
  }
  steps_.push_back(std::move(step));
  changed_.notify_all();
  return ended_ ? nullptr : steps_.back().get();
}

void ImageReadAhead::fill(Step& step, std::int64_t begin, std::int64_t end) {
  for (std::int64_t slot = begin; slot < end; ++slot) {
    const auto first = static_cast<std::size_t>(slot * plan_.slot_floats);
    const auto out =
        std::span(step.slots).subspan(first, static_cast<std::size_t>(plan_.slot_floats));
    try {
      plan_.fill(step.number, slot, out);
    } catch (...) {
      const std::scoped_lock lock(mutex_);
      if (!step.error || slot < step.error_slot) {
        step.error = std::current_exception();
        step.error_slot = slot;
      }
      ended_ = true;
    }
  }
}

/// For the thread that has done the last slot.
void ImageReadAhead::complete(Step& step, std::unique_lock<std::mutex>& lock) {
  if (!step.error && plan_.finish) {
    lock.unlock();
    std::exception_ptr error;
    try {
      plan_.finish(step.number, step.slots);
    } catch (...) {
      error = std::current_exception();
    }
    lock.lock();
    step.error = error;
    ended_ = ended_ || error != nullptr;
  }
  step.ready = true;
  changed_.notify_all();
}

void ImageReadAhead::work(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  while (!stop.stop_requested()) {
    Step* step = nullptr;
    const bool found =
        changed_.wait(lock, stop, [&] { return (step = step_to_work_on()) != nullptr; });
    if (!found || stop.stop_requested())
      return;
    const std::int64_t share = (step->count - step->begun) / (2 * threads_);
    const std::int64_t begin = step->begun;
    const std::int64_t end =
        std::min(step->count, begin + std::clamp<std::int64_t>(share, 1, kMostSlots));
    step->begun = end;
    lock.unlock();
    fill(*step, begin, end);
    lock.lock();
    step->done += end - begin;
    if (step->done == step->count)
      complete(*step, lock);
  }
}

std::vector<float> ImageReadAhead::take() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return !steps_.empty() && steps_.front()->ready; });
  if (steps_.front()->error)
    std::rethrow_exception(steps_.front()->error);
  std::vector<float> slots = std::move(steps_.front()->slots);
  steps_.pop_front();
  changed_.notify_all();
  return slots;
}

void ImageReadAhead::give_back(std::vector<float> slots) {
  const std::scoped_lock lock(mutex_);
  spare_.push_back(std::move(slots));
}

int default_decoding_threads() {
  cpu_set_t set;
  CPU_ZERO(&set);
  return ::sched_getaffinity(0, sizeof(set), &set) == 0 ? std::max(1, CPU_COUNT(&set)) : 1;
}

}  // namespace hew
