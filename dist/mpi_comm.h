#pragma once

#include <memory>

#include "dist/comm.h"

namespace hew::dist {

/// All ranks that mpirun started, over MPI_COMM_WORLD; host memory. The object is MPI's life: at
/// most one a process, ever, made and used by the main thread (MPI_THREAD_FUNNELED; other threads
/// may run but not call it). An exception that destroys it aborts the job, since MPI_Finalize would
/// wait for the other ranks; catch within its lifetime to say what went wrong first.
class MpiCommunicator final : public Communicator {
 public:
  /// Throws BackendError if MPI cannot start, or lacks thread support.
  MpiCommunicator();
  MpiCommunicator(const MpiCommunicator&) = delete;
  MpiCommunicator& operator=(const MpiCommunicator&) = delete;
  ~MpiCommunicator() override;

  void all_reduce_sum(const View& view) override;
  void broadcast(const View& view, int root) override;
  std::vector<std::byte> all_gather(std::span<const std::byte> mine) override;
  void barrier() override;
  [[noreturn]] void abort(int code) noexcept override;

 private:
  struct Place {
    int rank;
    int size;
  };
  static Place start();
  explicit MpiCommunicator(Place place);

  int exceptions_at_start_;
};

/// Whether an MPI launcher (mpirun, srun) started this process.
bool launched_by_mpi();

/// An MpiCommunicator under an MPI launcher, else a LocalCommunicator.
std::unique_ptr<Communicator> make_communicator();

}  // namespace hew::dist
