#pragma once

#include <memory>

#include "core/stream.h"

namespace hew::kernels {

/// Keeps multiprocessors of a stream's GPU from everybody else while it lives, in clusters where
/// NCCL's thread blocks come in such, and for 5 s at most. What is timed meanwhile is timed on the
/// rest.
class OccupiedMultiprocessors {
 public:
  /// Waits for the stream, then until so many are held; 1 s at most, and then holds what it can.
  /// Until the destructor returns, the device must not be waited for as a whole.
  OccupiedMultiprocessors(int count, const Stream& stream);
  OccupiedMultiprocessors(const OccupiedMultiprocessors&) = delete;
  OccupiedMultiprocessors& operator=(const OccupiedMultiprocessors&) = delete;
  ~OccupiedMultiprocessors();

 private:
  struct Words;
  std::unique_ptr<Words> words_;
  Stream side_;
};

}  // namespace hew::kernels
