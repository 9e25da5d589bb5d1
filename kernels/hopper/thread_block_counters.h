#pragma once

#include <memory>

#include "core/stream.h"

namespace hew::kernels::hopper {

/// Counters in device memory for kernels whose thread blocks draw their tiles and keep pace with
/// each other, zero before and after each: `stream.state->get<ThreadBlockCounters>(stream)`, one
/// for all kernels of a stream.
class ThreadBlockCounters {
 public:
  explicit ThreadBlockCounters(const Stream& stream);
  ThreadBlockCounters(const ThreadBlockCounters&) = delete;
  ThreadBlockCounters& operator=(const ThreadBlockCounters&) = delete;
  ~ThreadBlockCounters();

  int* tiles() const { return static_cast<int*>(data_); }  // two of them
  unsigned long long* at_work() const { return static_cast<unsigned long long*>(data_) + 1; }

 private:
  std::shared_ptr<Allocator> allocator_;
  void* data_;
};

}  // namespace hew::kernels::hopper
