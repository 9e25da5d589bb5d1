#pragma once

#include <memory>

#include "dist/comm.h"

namespace hew::dist {

class MpiRollCall;

/// All ranks that mpirun started, over MPI_COMM_WORLD; host memory (nccl_comm.h has GPUs). Before a
/// collective the ranks meet (mpi_roll_call.h), since MPI itself would wait for ever. The object is
/// MPI's life: at most one a process, ever, made and used by the main thread (MPI_THREAD_FUNNELED;
/// other threads may run but not call it). An exception that destroys it aborts the job, since
/// MPI_Finalize would wait for the other ranks; catch within its lifetime to say what went wrong
/// first.
class MpiCommunicator final : public Communicator {
 public:
  /// Throws BackendError if MPI cannot start, or lacks thread support.
  MpiCommunicator();
  MpiCommunicator(const MpiCommunicator&) = delete;
  MpiCommunicator& operator=(const MpiCommunicator&) = delete;
  ~MpiCommunicator() override;

  void all_reduce(const View& view, Reduction reduction, const Stream& stream) override;
  void reduce(const View& view, int root, Reduction reduction, const Stream& stream) override;
  void reduce_scatter(const ConstView& in, const View& out, Reduction reduction,
                      const Stream& stream) override;
  void broadcast(const View& view, int root, const Stream& stream) override;
  void all_gather(const ConstView& mine, const View& all, const Stream& stream) override;
  std::vector<std::byte> all_gather(std::span<const std::byte> mine) override;
  void barrier() override;
  bool roll_call(bool flag) override;
  [[noreturn]] void abort(int code) noexcept override;

 private:
  struct Place {
    int rank;
    int size;
  };
  static Place start();
  explicit MpiCommunicator(Place place);
  void meet(const char* what);
  void mean(const View& view, Reduction reduction) const;

  std::unique_ptr<MpiRollCall> roll_call_;
  int exceptions_at_start_;
};

/// Whether an MPI launcher (mpirun, srun) started this process.
bool launched_by_mpi();

/// An MpiCommunicator under an MPI launcher, else a LocalCommunicator.
std::unique_ptr<Communicator> make_communicator();

}  // namespace hew::dist
