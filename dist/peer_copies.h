#pragma once

// Only for files that are compiled with CUDA.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/cuda_check.h"
#include "core/cuda_device.h"
#include "dist/comm.h"

namespace hew::dist {

/// Reductions between the GPUs of one host that leave the multiprocessors to the products beside
/// them: copy engines bring what a rank has for another into that one's window, streams wait for
/// it by themselves, and only the sums take a kernel. NCCL's kernels take less time, but hold
/// multiprocessors for all of it and while they wait for another rank. A sum adds its terms by
/// rank, so that all ranks and all runs get equal bits.
///
/// A window has two sets of slots, one slot a rank, and exchanges take turns between the sets. So
/// a slot is free again without a word about it: who begins exchange s + 2 has seen every rank
/// begin s + 1, which each does after it has read what s brought.
///
/// Calls are collective, as those of Communicator, which checks what they are given; and like
/// those they are done in the order of the stream.
class PeerCopies {
 public:
  /// Null on all ranks unless all are on one host, at most kernels::kMaxTerms of them, and each GPU
  /// reaches the memory of all others; what errors CUDA gives then are no errors. Collective.
  static std::unique_ptr<PeerCopies> make(Communicator& host, const Stream& stream);
  PeerCopies(const PeerCopies&) = delete;
  PeerCopies& operator=(const PeerCopies&) = delete;
  /// After come_to_rest() windows are left to the end of the process, since letting go of them
  /// would wait for work that may never end.
  ~PeerCopies();

  /// Waits for this rank's GPU and lets go of the others' windows: the last call where nothing
  /// failed.
  void close() noexcept;

  /// Of floating-point values; DtypeError otherwise.
  void all_reduce(const View& view, Reduction reduction, const Stream& stream);
  void reduce_scatter(const ConstView& in, const View& out, Reduction reduction,
                      const Stream& stream);

  /// Ends the waits that are queued, whoever has not come; what was to be received is undefined.
  void release() noexcept;
  /// Does so until this rank's collectives are at rest, for a few seconds at most. The last call
  /// where something failed.
  void come_to_rest() noexcept;

 private:
  struct Piece {
    const void* data;
    std::int64_t bytes;
  };
  /// Equal lengths of a flattened array for all ranks, the last ones short or empty.
  struct Parts;

  PeerCopies(int rank, int size, const Stream& stream);
  bool allocate(cudaIpcMemHandle_t& handle);
  bool open(std::span<const cudaIpcMemHandle_t> handles);

  void begin(const Stream& stream);
  void end(const Stream& stream);
  void exchange(std::span<const Piece> pieces, const Stream& stream);
  void scatter(const ConstView& in, const Parts& parts, const View& out, Reduction reduction,
               const Stream& stream);
  void gather(const ConstView& mine, const Parts& parts, const View& all, const Stream& stream);

  std::byte* slot(int owner, int from) const;
  std::uint32_t* arrival(int owner, int from) const;

  int rank_;
  int size_;
  int device_;
  std::int64_t slot_bytes_;
  std::vector<std::byte*> windows_;  // by rank; null: not open
  std::uint32_t sequence_ = 0;       // of the exchange under way, from 1
  cuda::Mark last_;                  // after what was queued last
  bool failed_ = false;
  cuda::StreamHandle release_;
};

}  // namespace hew::dist
