#pragma once

#include <memory>

#include "core/cuda_device.h"
#include "core/stream.h"

namespace hew::kernels {

/// Counters in device memory for kernels whose last block along an axis finishes what the others
/// have begun; zero before and after each kernel: `stream.state->get<Arrivals>(stream)`, one for
/// all kernels of a stream.
class Arrivals {
 public:
  static constexpr std::int64_t kCounters = 1024;

  explicit Arrivals(const Stream& stream)
      : allocator_(stream.allocator), data_(allocator_->allocate(kBytes)) {
    cuda::zero(data_, kBytes, stream);
  }
  Arrivals(const Arrivals&) = delete;
  Arrivals& operator=(const Arrivals&) = delete;
  ~Arrivals() { allocator_->release(data_, kBytes); }

  int* data() const { return static_cast<int*>(data_); }

 private:
  static constexpr std::int64_t kBytes = kCounters * static_cast<std::int64_t>(sizeof(int));

  std::shared_ptr<Allocator> allocator_;
  void* data_;
};

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
