#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/stream.h"

/// What core asks of CUDA. `cuda_device.cc` answers it; in a build without CUDA
/// `cuda_device_stub.cc`, which has no devices and throws BackendError.
namespace hew::cuda {

int device_count();
Stream make_stream(int index);
/// What kernels may use on the stream's device, 10·major + minor: 90 on Hopper. At most what
/// HEW_CUDA_CAPABILITY said when the stream was made (capped_capability), so that the kernels of an
/// older device run on a newer one.
int compute_capability(const Stream& stream);
/// See hew::side_stream.
Stream side_stream(const Stream& stream);
/// See hew::synchronize.
void synchronize(const Stream& stream);

/// Bytes from, to and between devices, in the order of the stream. To a device, host memory may be
/// changed as soon as the call returns; to the host, the bytes have arrived when it does.
void copy(void* to, Device to_device, const void* from, Device from_device, std::int64_t bytes,
          const Stream& stream);
void zero(void* data, std::int64_t bytes, const Stream& stream);

/// A point in the order of a stream, whose time can be asked for.
class Mark {
 public:
  Mark();
  Mark(const Mark&) = delete;
  Mark& operator=(const Mark&) = delete;
  ~Mark();

  void record(const Stream& stream);
  /// Everything queued on `stream` from here on comes after this mark.
  void hold(const Stream& stream) const;
  /// Whether everything before the mark is done. Throws what it failed with.
  bool reached() const;
  /// Waits on the host for as long as it takes.
  void wait() const;
  /// From `earlier` to this mark, both reached.
  double seconds_since(const Mark& earlier) const;

 private:
  void* event_ = nullptr;
};

/// Waits on the host for a mark on `stream`, as that stream's waiter does where it has one. All
/// waits for work on a stream come here.
void wait(const Mark& mark, const Stream& stream);

/// NVTX ranges, which nest.
void begin_range(std::string_view name);
void end_range() noexcept;

/// Name of the stream's device and what kernels are chosen by, such as `NVIDIA H100 80GB HBM3,
/// sm_90`: what a measured time holds for.
std::string kind(const Stream& stream);
/// All of a device's memory, in use or not, in bytes. Throws BackendError.
std::int64_t memory_bytes(int index);
/// Name and memory of a device, and versions of driver and libraries, one line.
std::string describe(int index);

}  // namespace hew::cuda
