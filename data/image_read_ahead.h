#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

namespace hew {

/// What a step is made of. `slots` images of `slot_floats` numbers each; `fill` makes one of them
/// and `finish`, when all are there, changes them together. Both are called from any thread, fill
/// for several slots at a time.
struct ImageStepPlan {
  std::function<std::int64_t(std::int64_t step)> slots;  // 0: there is no such step
  std::int64_t slot_floats = 0;
  std::function<void(std::int64_t step, std::int64_t slot, std::span<float> out)> fill;
  std::function<void(std::int64_t step, std::span<float> slots)> finish;  // empty: nothing
};

/// Steps 0, 1, … of images, made by a pool of threads up to two steps ahead of who takes them.
class ImageReadAhead {
 public:
  ImageReadAhead(ImageStepPlan plan, int threads);
  ImageReadAhead(const ImageReadAhead&) = delete;
  ImageReadAhead& operator=(const ImageReadAhead&) = delete;
  ~ImageReadAhead();

  /// All slots of the next step, one after another. Throws what the lowest slot that failed threw,
  /// and then again on every call.
  std::vector<float> take();
  /// Memory of a step that was taken, for one to come.
  void give_back(std::vector<float> slots);

 private:
  struct Step {
    std::int64_t number = 0;
    std::vector<float> slots;
    std::int64_t count = 0;
    std::int64_t begun = 0;  // slots that some thread has taken on
    std::int64_t done = 0;
    bool ready = false;  // finish() is over, too
    std::exception_ptr error;
    std::int64_t error_slot = 0;
  };
  void work(const std::stop_token& stop);
  Step* step_to_work_on();
  void fill(Step& step, std::int64_t begin, std::int64_t end);
  void complete(Step& step, std::unique_lock<std::mutex>& lock);

  ImageStepPlan plan_;
  std::int64_t threads_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::deque<std::unique_ptr<Step>> steps_;  // in order; those in front are taken first
  std::vector<std::vector<float>> spare_;
  std::int64_t next_number_ = 0;
  bool ended_ = false;              // no step is begun any more
  std::vector<std::jthread> pool_;  // last, so that it stops before what it uses goes
};

/// Threads for decoding where none are asked for: as many as this process may run at a time.
int default_decoding_threads();

}  // namespace hew
