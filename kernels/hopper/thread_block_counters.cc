#include "kernels/hopper/thread_block_counters.h"

#include "core/cuda_device.h"

namespace hew::kernels::hopper {
namespace {

constexpr std::int64_t kBytes = 2 * sizeof(int) + sizeof(unsigned long long);

}  // namespace

ThreadBlockCounters::ThreadBlockCounters(const Stream& stream)
    : allocator_(stream.allocator), data_(allocator_->allocate(kBytes)) {
  cuda::zero(data_, kBytes, stream);
}

ThreadBlockCounters::~ThreadBlockCounters() {
  allocator_->release(data_, kBytes);
}

}  // namespace hew::kernels::hopper
