#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/cuda_device.h"
#include "core/stream.h"

namespace hew {

/// Time of each operation between start() and stop(), read from events on a GPU and from the clock
/// on the CPU. A region within a region counts for the outer one.
class Profiler {
 public:
  /// Seconds of all calls of one operation.
  struct Row {
    std::string op;
    double seconds = 0;
    std::int64_t calls = 0;
  };

  void begin(std::string_view op, const Stream& stream);
  void end(const Stream& stream);
  /// Operations by falling time. Waits for the GPU.
  std::vector<Row> rows(const Stream& stream);

 private:
  using Clock = std::chrono::steady_clock;
  struct Span {
    std::string op;
    Clock::time_point begin;
    Clock::time_point end;
    std::unique_ptr<cuda::Mark> begin_mark;
    std::unique_ptr<cuda::Mark> end_mark;
  };
  std::vector<Span> spans_;
  int depth_ = 0;
};

/// Rows as a table: operation, calls, milliseconds, share of the total.
std::string to_table(const std::vector<Profiler::Row>& rows, double steps);

/// Times its scope as `op` if the stream is being profiled.
class ProfiledRegion {
 public:
  ProfiledRegion(const Stream& stream, std::string_view op) : stream_(stream) {
    if (stream_.state != nullptr && stream_.state->profiler != nullptr)
      stream_.state->profiler->begin(op, stream_);
  }
  ProfiledRegion(const ProfiledRegion&) = delete;
  ProfiledRegion& operator=(const ProfiledRegion&) = delete;
  ~ProfiledRegion() {
    if (stream_.state != nullptr && stream_.state->profiler != nullptr)
      stream_.state->profiler->end(stream_);
  }

 private:
  const Stream& stream_;
};

/// Names its scope to tools that look at a GPU's timeline (NVTX). Nothing on the CPU.
class NamedRange {
 public:
  NamedRange(const Stream& stream, std::string_view name) : active_(!stream.device.is_cpu()) {
    if (active_)
      cuda::begin_range(name);
  }
  NamedRange(const NamedRange&) = delete;
  NamedRange& operator=(const NamedRange&) = delete;
  ~NamedRange() {
    if (active_)
      cuda::end_range();
  }

 private:
  bool active_;
};

}  // namespace hew
