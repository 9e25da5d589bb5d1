#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "app/bench_kernels.h"
#include "app/bench_random.h"
#include "core/tensor.h"

namespace hew {

/// One line of the table of `hew bench kernels`. Bytes are those that the operation has to read and
/// write at least; of a product they are those of its operands.
struct KernelWork {
  std::string kernel;
  std::string shape;
  double bytes = 0;
  double flops = 0;                        // of a product; 0: bytes a second are reported
  std::function<std::string()> note = {};  // asked after the last call; ends the line
};

/// A kernel on buffers that the call owns.
struct KernelCall {
  std::function<void()> run;
  std::function<void()> restore = {};  // before each timed run, and not timed: undoes the last one
};

/// Times kernels on one GPU and prints a line for each.
class KernelTimer {
 public:
  using Print = std::function<void(const std::string&)>;

  /// Measures the copy bandwidth. Throws ConfigError, BackendError.
  KernelTimer(const BenchKernelsOptions& options, Print print);

  const Stream& stream() const { return stream_; }
  DType dtype() const { return dtype_; }
  /// Whether products of float32 are rounded to tf32.
  bool tf32() const { return tf32_; }
  /// `count` times the options' scale, at least 1.
  std::int64_t scaled(std::int64_t count) const;
  /// Bytes of so many elements of dtype().
  double bytes(std::int64_t elements) const;

  /// Normal with mean 0.
  Tensor random(const Shape& shape, DType dtype, double deviation = 1) {
    return random_.normal(shape, dtype, deviation);
  }
  Tensor random(const Shape& shape, double deviation = 1) {
    return random(shape, dtype_, deviation);
  }
  Tensor empty(const Shape& shape, DType dtype) const {
    return Tensor::empty(shape, dtype, stream_);
  }
  Tensor empty(const Shape& shape) const { return empty(shape, dtype_); }
  /// What sums over dtype() are kept in.
  Tensor empty_sums(const Shape& shape) const { return empty(shape, accumulator_of(dtype_)); }

  /// Prints the median of the calls. `make` is called for as many sets of buffers as it takes to
  /// find no operand in a cache; the sets take turns.
  void time(const KernelWork& work, const std::function<KernelCall()>& make);

 private:
  double median_seconds(const KernelWork& work, const std::function<KernelCall()>& make) const;
  void print_line(const KernelWork& work, double seconds) const;
  void time_copy();

  Print print_;
  Stream stream_;
  bool tf32_;
  DType dtype_;
  int repeat_;
  double scale_;
  double copy_rate_ = 0;  // bytes/s
  RandomTensors random_;
};

}  // namespace hew
