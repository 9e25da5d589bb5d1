#include "core/cuda_device.h"

#include <nvtx3/nvToolsExt.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>

#include "core/compute_capability.h"
#include "core/cuda_allocator.h"
#include "core/cuda_check.h"

namespace hew::cuda {
namespace {

// The native stream, and with the base class all handles that work on it; those go first.
class CudaStreamState final : public StreamState {
 public:
  CudaStreamState(int priority, int capability) : capability_(capability) {
    cudaStream_t stream = nullptr;
    check(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, priority),
          "cudaStreamCreateWithPriority");
    stream_ = StreamHandle(stream);
  }
  CudaStreamState(const CudaStreamState&) = delete;
  CudaStreamState& operator=(const CudaStreamState&) = delete;
  ~CudaStreamState() override {
    cudaStreamSynchronize(stream_.get());
    drop_members();
  }
  cudaStream_t stream() const { return stream_.get(); }
  int capability() const { return capability_; }

 private:
  StreamHandle stream_;
  int capability_;
};

struct PinnedTraits {
  using Value = void*;
  static Value null() { return nullptr; }
  static void destroy(Value data) noexcept { cudaFreeHost(data); }
};

// Host memory that the device reads while the host goes on: a copy to the device is written into
// the next slot, and waits only where that slot's last copy has not been made yet.
class Staging {
 public:
  static constexpr std::int64_t kSlotBytes = std::int64_t{1} << 20U;

  explicit Staging(const Stream& /*stream*/) {
    for (Slot& slot : slots_) {
      void* data = nullptr;
      check(cudaMallocHost(&data, static_cast<std::size_t>(kSlotBytes)), "cudaMallocHost");
      slot.data = UniqueHandle<PinnedTraits>(data);
    }
  }

  void copy(char* to, const char* from, std::int64_t bytes, const Stream& stream) {
    for (std::int64_t at = 0; at < bytes; at += kSlotBytes) {
      const auto size = static_cast<std::size_t>(std::min(kSlotBytes, bytes - at));
      Slot& slot = slots_[next_++ % slots_.size()];
      cuda::wait(slot.copied, stream);
      std::memcpy(slot.data.get(), from + at, size);
      check(cudaMemcpyAsync(to + at, slot.data.get(), size, cudaMemcpyHostToDevice, native(stream)),
            "cudaMemcpyAsync");
      slot.copied.record(stream);
    }
  }

 private:
  struct Slot {
    UniqueHandle<PinnedTraits> data;
    Mark copied;
  };
  std::array<Slot, 8> slots_;
  std::size_t next_ = 0;
};

int own_capability(int index) {
  int major = 0;
  int minor = 0;
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, index),
        "cudaDeviceGetAttribute");
  check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, index),
        "cudaDeviceGetAttribute");
  return 10 * major + minor;
}

cudaEvent_t event_of(void* event) {
  return static_cast<cudaEvent_t>(event);
}

}  // namespace

int device_count() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaErrorNoDevice || error == cudaErrorInsufficientDriver ||
      error == cudaErrorStubLibrary)  // no driver, but what one is linked against
    return 0;
  check(error, "cudaGetDeviceCount");
  return count;
}

Stream make_stream(int index) {
  const int count = device_count();
  if (index >= count) {
    throw BackendError(
        "cuda", 0,
        fmt::format("this machine has {} usable GPUs, asked for number {}", count, index));
  }
  const int capability = capped_capability(own_capability(index), std::getenv(kCapabilityCap));
  check(cudaSetDevice(index), "cudaSetDevice");
  auto allocator = std::make_shared<CudaAllocator>(index);
  auto state = std::make_shared<CudaStreamState>(/*priority=*/0, capability);
  void* stream = state->stream();
  return {.device = {.type = DeviceType::kCuda, .index = index},
          .allocator = std::move(allocator),
          .native = stream,
          .state = std::move(state)};
}

Stream side_stream(const Stream& stream) {
  const CurrentDevice current(stream.device.index);
  int lowest = 0;
  int highest = 0;
  check(cudaDeviceGetStreamPriorityRange(&lowest, &highest), "cudaDeviceGetStreamPriorityRange");
  auto state = std::make_shared<CudaStreamState>(highest, compute_capability(stream));
  void* native = state->stream();
  return {.device = stream.device,
          .allocator = stream.allocator,
          .native = native,
          .state = std::move(state)};
}

int compute_capability(const Stream& stream) {
  return dynamic_cast<const CudaStreamState&>(*stream.state).capability();
}

void synchronize(const Stream& stream) {
  if (!stream.state->waiter)
    return check(cudaStreamSynchronize(native(stream)), "cudaStreamSynchronize");
  Mark mark;
  mark.record(stream);
  wait(mark, stream);
}

void wait(const Mark& mark, const Stream& stream) {
  if (stream.state->waiter) {
    stream.state->waiter(mark);
  } else {
    mark.wait();
  }
}

void copy(void* to, Device to_device, const void* from, Device from_device, std::int64_t bytes,
          const Stream& stream) {
  const auto size = static_cast<std::size_t>(bytes);
  if (from_device.is_cpu()) {
    stream.state->get<Staging>(stream).copy(static_cast<char*>(to), static_cast<const char*>(from),
                                            bytes, stream);
  } else if (to_device.is_cpu()) {
    cuda::synchronize(stream);  // the copy itself would wait for as long as it takes
    check(cudaMemcpyAsync(to, from, size, cudaMemcpyDeviceToHost, native(stream)),
          "cudaMemcpyAsync");
    cuda::synchronize(stream);
  } else {
    check(cudaMemcpyAsync(to, from, size, cudaMemcpyDeviceToDevice, native(stream)),
          "cudaMemcpyAsync");
  }
}

void zero(void* data, std::int64_t bytes, const Stream& stream) {
  check(cudaMemsetAsync(data, 0, static_cast<std::size_t>(bytes), native(stream)),
        "cudaMemsetAsync");
}

Mark::Mark() {
  cudaEvent_t event = nullptr;
  check(cudaEventCreate(&event), "cudaEventCreate");
  event_ = event;
}

Mark::~Mark() {
  cudaEventDestroy(event_of(event_));
}

void Mark::record(const Stream& stream) {
  check(cudaEventRecord(event_of(event_), native(stream)), "cudaEventRecord");
}

void Mark::hold(const Stream& stream) const {
  check(cudaStreamWaitEvent(native(stream), event_of(event_), 0), "cudaStreamWaitEvent");
}

bool Mark::reached() const {
  const cudaError_t code = cudaEventQuery(event_of(event_));
  if (code == cudaErrorNotReady)
    return false;
  check(code, "cudaEventQuery");
  return true;
}

void Mark::wait() const {
  check(cudaEventSynchronize(event_of(event_)), "cudaEventSynchronize");
}

double Mark::seconds_since(const Mark& earlier) const {
  float milliseconds = 0;
  check(cudaEventElapsedTime(&milliseconds, event_of(earlier.event_), event_of(event_)),
        "cudaEventElapsedTime");
  return static_cast<double>(milliseconds) * 1e-3;
}

void begin_range(std::string_view name) {
  nvtxRangePushA(std::string(name).c_str());
}

void end_range() noexcept {
  nvtxRangePop();
}

std::string kind(const Stream& stream) {
  cudaDeviceProp device{};
  check(cudaGetDeviceProperties(&device, stream.device.index), "cudaGetDeviceProperties");
  return fmt::format("{}, sm_{}", device.name, compute_capability(stream));
}

std::int64_t memory_bytes(int index) {
  cudaDeviceProp device{};
  check(cudaGetDeviceProperties(&device, index), "cudaGetDeviceProperties");
  return static_cast<std::int64_t>(device.totalGlobalMem);
}

std::string describe(int index) {
  cudaDeviceProp device{};
  int driver = 0;
  int runtime = 0;
  check(cudaGetDeviceProperties(&device, index), "cudaGetDeviceProperties");
  check(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
  check(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion");
  const int own = own_capability(index);
  const int used = capped_capability(own, std::getenv(kCapabilityCap));
  return fmt::format("{}, {:.1f} GiB, sm_{}{}, CUDA runtime {}.{}, driver for {}.{}", device.name,
                     static_cast<double>(device.totalGlobalMem) / (1 << 30), own,
                     used == own ? "" : fmt::format(" used as sm_{}", used), runtime / 1000,
                     runtime % 1000 / 10, driver / 1000, driver % 1000 / 10);
}

}  // namespace hew::cuda
