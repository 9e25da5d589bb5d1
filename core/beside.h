#pragma once

#include <memory>

#include "core/cuda_device.h"

namespace hew {

/// Work that goes on beside a stream's, on a second queue of its device; on the CPU it is the
/// stream's own. Tensors are allocated in the order of the first stream: those that the work reads
/// or writes have to live until join(), as members declared before this one do.
class Beside {
 public:
  /// The work begins after what `stream` has been given so far.
  explicit Beside(const Stream& stream);
  Beside(const Beside&) = delete;
  Beside& operator=(const Beside&) = delete;
  /// As join() does.
  ~Beside();

  /// Where to queue the work.
  const Stream& stream() const { return side_; }
  /// After the last of it: what the first stream is given from here on comes after all of it.
  void join();

 private:
  Stream main_;
  Stream side_;
  std::unique_ptr<cuda::Mark> done_;  // null on the CPU and once joined
};

}  // namespace hew
