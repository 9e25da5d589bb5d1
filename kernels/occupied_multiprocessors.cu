#include <atomic>
#include <chrono>
#include <span>
#include <thread>

#include "core/handle.h"
#include "kernels/launch.cuh"
#include "kernels/occupied_multiprocessors.h"

namespace hew::kernels {
namespace {

constexpr int kHopper = 90;
constexpr int kClusterSize = 4;  // NCCL's from Hopper on, where it divides the grid
constexpr unsigned int kThreads = 32;
constexpr unsigned long long kLongestNanoseconds = 5'000'000'000;
constexpr std::chrono::seconds kPatience{1};

struct PinnedTraits {
  using Value = int*;
  static Value null() { return nullptr; }
  static void destroy(Value words) noexcept { cudaFreeHost(words); }
};

__device__ unsigned long long nanoseconds() {
  unsigned long long now = 0;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
  return now;
}

// arrived[i] ← 1 by block i, which then stays until *leave or until its time is up.
__global__ void occupy(volatile int* arrived, const volatile int* leave) {
  if (threadIdx.x != 0)
    return;
  arrived[blockIdx.x] = 1;
  __threadfence_system();
  const unsigned long long start = nanoseconds();
  while (*leave == 0 && nanoseconds() - start < kLongestNanoseconds) __nanosleep(1000);
}

int* pinned_zeros(int count) {
  int* words = nullptr;
  cuda::check(cudaHostAlloc(&words, static_cast<std::size_t>(count) * sizeof(int),
                            cudaHostAllocMapped | cudaHostAllocPortable),
              "cudaHostAlloc");
  std::fill_n(words, count, 0);
  return words;
}

// A block asks for all shared memory that there is, so that no other has room beside it.
void launch(int blocks, int* arrived, const int* leave, const DeviceLimits& device,
            cudaStream_t stream) {
  cuda::check(cudaFuncSetAttribute(occupy, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                   device.shared_memory),
              "cudaFuncSetAttribute");
  cudaLaunchAttribute cluster{};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim = {kClusterSize, 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned int>(blocks));
  config.blockDim = dim3(kThreads);
  config.dynamicSmemBytes = static_cast<std::size_t>(device.shared_memory);
  config.stream = stream;
  config.attrs = &cluster;
  config.numAttrs = device.capability >= kHopper && blocks % kClusterSize == 0 ? 1 : 0;
  cuda::check(cudaLaunchKernelEx(&config, occupy, static_cast<volatile int*>(arrived),
                                 static_cast<const volatile int*>(leave)),
              "occupy");
}

}  // namespace

// On the host, where both sides see them at once: a word for each block, then the one that ends
// them.
struct OccupiedMultiprocessors::Words {
  explicit Words(int blocks) : memory(pinned_zeros(blocks + 1)), blocks(blocks) {}

  int* leave() const { return memory.get() + blocks; }
  bool all_arrived() const {
    const std::span<int> arrived(memory.get(), static_cast<std::size_t>(blocks));
    return std::all_of(arrived.begin(), arrived.end(), [](int& word) {
      return std::atomic_ref<int>(word).load(std::memory_order_acquire) != 0;
    });
  }

  UniqueHandle<PinnedTraits> memory;
  int blocks;
};

OccupiedMultiprocessors::OccupiedMultiprocessors(int count, const Stream& stream)
    : words_(std::make_unique<Words>(count)), side_(side_stream(stream)) {
  synchronize(stream);
  launch(count, words_->memory.get(), words_->leave(), stream.state->get<DeviceLimits>(stream),
         cuda::native(side_));
  const auto start = std::chrono::steady_clock::now();
  while (!words_->all_arrived() && std::chrono::steady_clock::now() - start < kPatience)
    std::this_thread::yield();
}

OccupiedMultiprocessors::~OccupiedMultiprocessors() {
  std::atomic_ref<int>(*words_->leave()).store(1, std::memory_order_release);
  cudaStreamSynchronize(cuda::native(side_));  // they read the words
}

}  // namespace hew::kernels
