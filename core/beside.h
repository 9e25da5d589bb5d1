#pragma once

#include <memory>
#include <vector>

#include "core/cuda_device.h"
#include "core/tensor.h"

namespace hew {

/// Work that goes on beside a stream's, on a second queue of its device; on the CPU it is the
/// stream's own. Tensors are allocated in the order of the stream: what the work reads or writes
/// has to live until join(), by keep() or as a member declared before this one.
class Beside {
 public:
  explicit Beside(Stream stream) : main_(std::move(stream)) {}
  Beside(const Beside&) = delete;
  Beside& operator=(const Beside&) = delete;
  /// As join() does.
  ~Beside();

  /// Where to queue work, which comes after all that the stream has been given so far. Joins the
  /// work before it, so that what that keeps does not add up.
  Stream begin();
  /// Until join().
  void keep(Tensor tensor) { kept_.push_back(std::move(tensor)); }
  /// What the stream is given from here on comes after all work.
  void join();

 private:
  Stream main_;
  std::unique_ptr<cuda::Mark> mark_;  // null where no work may be under way
  std::vector<Tensor> kept_;
};

}  // namespace hew
