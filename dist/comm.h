#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

#include "core/tensor.h"

namespace hew::dist {

/// What becomes of the ranks' values: their sum, or their sum divided by the number of ranks.
enum class Reduction { kSum, kMean };

/// The ranks of one job, numbered from 0, each a process with a whole copy of the model. Every call
/// but set_step(), set_deadline(), give_up() and abort() is collective: all ranks make the
/// same calls in the same order, with equal shapes and dtypes. One thread at a time.
///
/// What takes a stream is done when the call returns where the data lie on the host, and in the
/// order of that stream where they lie on a GPU: then a wait for the stream that the communicator
/// was made with (hew::synchronize, a copy to the host) ends with the deadline. Sums are of
/// float32, float64 or int64 values, on a GPU also bfloat16; means not of int64; DtypeError
/// otherwise. Where a library fails, or a rank does not answer within the deadline, BackendError or
/// Error is thrown.
class Communicator {
 public:
  static constexpr std::chrono::seconds kDefaultDeadline{300};

  Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;
  virtual ~Communicator() = default;

  int rank() const { return rank_; }
  int size() const { return size_; }

  /// view ← Σ or mean over ranks of view, in place, with equal bits on all ranks.
  virtual void all_reduce(const View& view, Reduction reduction, const Stream& stream) = 0;
  void all_reduce_sum(const View& view, const Stream& stream) {
    all_reduce(view, Reduction::kSum, stream);
  }
  /// The same on `root` alone; what the others hold is left as it is.
  virtual void reduce(const View& view, int root, Reduction reduction, const Stream& stream) = 0;
  /// out ← the rank-th of size equal parts of the sum or mean of in. `out` may be that part of
  /// `in`; then the other parts of `in` are undefined afterwards. Throws ShapeError unless in has
  /// size times the elements of out.
  virtual void reduce_scatter(const ConstView& in, const View& out, Reduction reduction,
                              const Stream& stream) = 0;
  void reduce_scatter_sum(const ConstView& in, const View& out, const Stream& stream) {
    reduce_scatter(in, out, Reduction::kSum, stream);
  }
  /// The same two for gradients, while products go on: on GPUs of one host in a way that may take
  /// longer and disturbs those less.
  virtual void all_reduce_beside(const View& view, Reduction reduction, const Stream& stream) {
    all_reduce(view, reduction, stream);
  }
  virtual void reduce_scatter_beside(const ConstView& in, const View& out, Reduction reduction,
                                     const Stream& stream) {
    reduce_scatter(in, out, reduction, stream);
  }
  /// view ← root's view, any dtype.
  virtual void broadcast(const View& view, int root, const Stream& stream) = 0;
  /// all ← the ranks' `mine`, one after the other, any dtype. `mine` may be its part of `all`.
  /// Throws ShapeError unless all has size times the elements of mine.
  virtual void all_gather(const ConstView& mine, const View& all, const Stream& stream) = 0;
  /// The ranks' bytes, one after the other, on the host; all give as many.
  virtual std::vector<std::byte> all_gather(std::span<const std::byte> mine) = 0;
  /// Returns once all ranks have called it.
  virtual void barrier() = 0;

  /// Whether any rank gave `flag`; all must be at the same step. Ranks that have not come within
  /// the deadline are an Error on all others, `[train] step 17: rank 3 has not answered for 300 s`;
  /// where rank 0 itself does not answer, the others say so.
  virtual bool roll_call(bool flag) = 0;
  /// The training step, from 1, that is under way and that errors name; each rank for itself.
  virtual void set_step(std::int64_t step) { step_ = step; }
  /// The longest that this rank waits for another.
  virtual void set_deadline(std::chrono::milliseconds deadline) { deadline_ = deadline; }
  std::chrono::milliseconds deadline() const { return deadline_; }

  /// Ends what is under way on devices, so that streams come to rest although other ranks do not
  /// answer. After that no collective can be called. For clean-up after an error.
  virtual void give_up() noexcept {}
  /// Ends all ranks at once, whatever they wait for; the job exits with `code`. For main alone,
  /// when an error leaves the others in a collective call.
  [[noreturn]] virtual void abort(int code) noexcept = 0;

 protected:
  Communicator(int rank, int size) : rank_(rank), size_(size) {}
  /// −1 before the first.
  std::int64_t step() const { return step_; }

 private:
  friend class Group;
  virtual void group_begin() {}
  /// `given_up`: nothing of it need be done, since an error is on its way.
  virtual void group_end(bool /*given_up*/) {}

  int rank_ = 0;
  int size_ = 1;
  std::int64_t step_ = -1;
  std::chrono::milliseconds deadline_ = kDefaultDeadline;
};

/// What each rank gives, by rank; on the host. Collective.
template <class T>
std::vector<T> gather_of_ranks(Communicator& comm, const T& mine) {
  static_assert(std::is_trivially_copyable_v<T>);
  const std::vector<std::byte> bytes = comm.all_gather(std::as_bytes(std::span(&mine, 1)));
  std::vector<T> all(static_cast<std::size_t>(comm.size()));
  std::memcpy(all.data(), bytes.data(), bytes.size());
  return all;
}

/// Collectives that are called while it lives may travel as one (on GPUs); they are queued when
/// end() returns, which must come before anything that depends on them. Without end(), as after an
/// error, they are given up. Groups do not nest.
class Group {
 public:
  explicit Group(Communicator& comm);
  Group(const Group&) = delete;
  Group& operator=(const Group&) = delete;
  ~Group();

  void end();

 private:
  Communicator& comm_;
  bool open_ = true;
};

/// One rank by itself, on any device.
class LocalCommunicator final : public Communicator {
 public:
  void all_reduce(const View& view, Reduction reduction, const Stream& stream) override;
  void reduce(const View& view, int root, Reduction reduction, const Stream& stream) override;
  void reduce_scatter(const ConstView& in, const View& out, Reduction reduction,
                      const Stream& stream) override;
  void broadcast(const View& view, int root, const Stream& stream) override;
  void all_gather(const ConstView& mine, const View& all, const Stream& stream) override;
  std::vector<std::byte> all_gather(std::span<const std::byte> mine) override;
  void barrier() override {}
  bool roll_call(bool flag) override { return flag; }
  [[noreturn]] void abort(int code) noexcept override;
};

/// Throws DtypeError unless `view` is of a dtype that can be reduced so where it lies.
void require_reducible(std::string_view op, const ConstView& view, Reduction reduction);
/// Throws ShapeError or DtypeError unless `whole` holds `parts` times what `part` does.
void require_parts(std::string_view op, const ConstView& whole, const ConstView& part, int parts);
/// Elements [begin, begin + count) of a view, as a view [count].
View part_of(const View& view, std::int64_t begin, std::int64_t count);
ConstView part_of(const ConstView& view, std::int64_t begin, std::int64_t count);

}  // namespace hew::dist
