#pragma once

#include <memory>

#include "core/stream.h"

namespace hew::kernels::hopper {

/// Two counters in device memory for kernels whose thread blocks draw their tiles, zero before and
/// after each: `stream.state->get<TileCounter>(stream)`, one for all kernels of a stream.
class TileCounter {
 public:
  explicit TileCounter(const Stream& stream);
  TileCounter(const TileCounter&) = delete;
  TileCounter& operator=(const TileCounter&) = delete;
  ~TileCounter();

  int* data() const { return static_cast<int*>(data_); }

 private:
  std::shared_ptr<Allocator> allocator_;
  void* data_;
};

}  // namespace hew::kernels::hopper
