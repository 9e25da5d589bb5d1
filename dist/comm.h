#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "core/tensor.h"

namespace hew::dist {

/// The ranks of one job, numbered from 0, each a process with a whole copy of the model. Every call
/// but abort() is collective: all ranks make the same calls in the same order, with equal shapes
/// and dtypes. One thread at a time.
class Communicator {
 public:
  Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;
  virtual ~Communicator() = default;

  int rank() const { return rank_; }
  int size() const { return size_; }

  /// view ← Σ over ranks of view, in place, with equal bits on all ranks; float32, float64 or
  /// int64. Throws DtypeError on other dtypes, BackendError where the library fails.
  virtual void all_reduce_sum(const View& view) = 0;
  /// view ← root's view, any dtype.
  virtual void broadcast(const View& view, int root) = 0;
  /// The ranks' bytes, one after the other; all give as many.
  virtual std::vector<std::byte> all_gather(std::span<const std::byte> mine) = 0;
  /// Returns once all ranks have called it.
  virtual void barrier() = 0;
  /// Ends all ranks at once, whatever they wait for; the job exits with `code`. For main alone,
  /// when an error leaves the others in a collective call.
  [[noreturn]] virtual void abort(int code) noexcept = 0;

 protected:
  Communicator(int rank, int size) : rank_(rank), size_(size) {}

 private:
  int rank_ = 0;
  int size_ = 1;
};

/// One rank by itself.
class LocalCommunicator final : public Communicator {
 public:
  void all_reduce_sum(const View& view) override;
  void broadcast(const View& view, int root) override;
  std::vector<std::byte> all_gather(std::span<const std::byte> mine) override;
  void barrier() override {}
  [[noreturn]] void abort(int code) noexcept override;
};

/// Throws DtypeError unless `dtype` is one that all_reduce_sum adds.
void require_summable(DType dtype);

}  // namespace hew::dist
