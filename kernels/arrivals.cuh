#pragma once

#include <algorithm>
#include <memory>

#include "core/cuda_device.h"
#include "core/stream.h"
#include "kernels/dispatch.h"

namespace hew::kernels {

/// Counters in device memory for kernels whose last block along an axis finishes what the others
/// have begun; zero before and after each kernel, so that none is cleared in between:
/// `stream.state->get<Arrivals>(stream)`, the same ones for all kernels of a stream.
class Arrivals {
 public:
  explicit Arrivals(const Stream& stream) : allocator_(stream.allocator) {}
  Arrivals(const Arrivals&) = delete;
  Arrivals& operator=(const Arrivals&) = delete;
  ~Arrivals() { release(); }

  /// `count` of them, for one kernel that is queued on `stream` next.
  int* counters(std::int64_t count, const Stream& stream) {
    if (count > count_) {
      release();
      const std::int64_t grown = std::max(count, kFewest);
      data_ = allocator_->allocate(bytes(grown));  // may throw
      count_ = grown;
      cuda::zero(data_, bytes(grown), stream);
    }
    return static_cast<int*>(data_);
  }

 private:
  static constexpr std::int64_t kFewest = 1024;

  static std::int64_t bytes(std::int64_t count) {
    return count * static_cast<std::int64_t>(sizeof(int));
  }
  void release() {
    if (data_ != nullptr)
      allocator_->release(data_, bytes(count_));
    data_ = nullptr;
    count_ = 0;
  }

  std::shared_ptr<Allocator> allocator_;
  void* data_ = nullptr;
  std::int64_t count_ = 0;
};

/// The counters of the stream's next kernel.
inline int* arrivals_of(Cuda backend, std::int64_t count) {
  return backend.stream.state->get<Arrivals>(backend.stream).counters(count, backend.stream);
}

/// By all threads of a block: whether it is the last of `blocks` that come here with this counter.
/// What the others wrote before is visible then.
__device__ inline bool last_to_arrive(int* counter, int blocks) {
  __shared__ bool last;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0 && threadIdx.y == 0) {
    last = atomicAdd(counter, 1) == blocks - 1;
    if (last)
      *counter = 0;
  }
  __syncthreads();
  __threadfence();
  return last;
}

}  // namespace hew::kernels
