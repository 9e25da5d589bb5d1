#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <typeindex>
#include <typeinfo>
#include <unordered_map>

#include "core/allocator.h"
#include "core/device.h"

namespace hew {

class Profiler;
class StreamState;
namespace cuda {
class Mark;
}

/// Where work runs and where its memory comes from: a device, its allocator and, on a GPU, the
/// native queue. A cheap value; every tensor carries the one it was made on, and every kernel
/// takes one as its last argument. On the CPU work is done when the call returns; on a GPU it is
/// done in the order of the calls.
struct Stream {
  Device device;
  std::shared_ptr<Allocator> allocator;
  void* native = nullptr;              // cudaStream_t
  std::shared_ptr<StreamState> state;  // shared by all copies
};

/// What belongs to one stream beside its memory: library handles and caches, each made when first
/// asked for, the profiler, and how the host waits.
class StreamState {
 public:
  StreamState() = default;
  StreamState(const StreamState&) = delete;
  StreamState& operator=(const StreamState&) = delete;
  virtual ~StreamState() = default;

  /// The stream's only T, made by T(stream) on the first call. T must not keep that Stream.
  template <class T>
  T& get(const Stream& stream) {
    const std::scoped_lock lock(mutex_);
    std::shared_ptr<void>& slot = members_[typeid(T)];
    if (slot == nullptr)
      slot = std::make_shared<T>(stream);
    return *static_cast<T*>(slot.get());
  }

  std::shared_ptr<Profiler> profiler;  // null: nothing is timed
  /// How the host waits for a mark on a GPU's stream; empty: for as long as it takes. Who queues
  /// what may never end, such as a collective that some rank leaves out, sets it to something that
  /// throws.
  std::function<void(const cuda::Mark&)> waiter;

 protected:
  /// Destroys what get() made; for a subclass whose own members those need.
  void drop_members() { members_.clear(); }

 private:
  std::recursive_mutex mutex_;  // a T may get() another in its constructor
  std::unordered_map<std::type_index, std::shared_ptr<void>> members_;
};

/// A stream on the host with an allocator of its own.
Stream make_cpu_stream();

/// A stream on any device of this build, with an allocator of its own. Throws BackendError where
/// this build or this machine does not have the device.
Stream make_stream(Device device);

/// A second queue of the stream's device, ahead of it in priority, for work that goes on beside it;
/// on the CPU the stream itself. The allocator is shared and goes by the order of the first stream:
/// allocate there, and hold tensors in use here until the first has waited for this one
/// (cuda::Mark).
Stream side_stream(const Stream& stream);

/// GPUs that this process can use; 0 in a build without CUDA and on a machine without a driver.
/// Throws BackendError where CUDA cannot say.
int cuda_device_count();

/// Returns once everything queued on `stream` is done; throws what it failed with, and what the
/// waiter of its state does.
void synchronize(const Stream& stream);

}  // namespace hew
