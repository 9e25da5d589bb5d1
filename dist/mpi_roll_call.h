#pragma once

// Only for files that are compiled with MPI.

#include <mpi.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <source_location>
#include <vector>

namespace hew::dist {

/// Throws BackendError with MPI's own text unless `code` is success.
void check_mpi(int code, const char* api,
               std::source_location where = std::source_location::current());

/// How the ranks find out who is there, with a deadline, before they enter a call of MPI's that
/// would wait for ever: every rank reports to rank 0, which answers when all have. If some have not
/// come in time rank 0's answer to the others names them, so that all throw one text.
class MpiRollCall {
 public:
  /// Has messages of its own on MPI_COMM_WORLD, by this tag; at most one object a process.
  MpiRollCall(int rank, int size);

  /// What all ranks but rank 0 are given on top of the deadline to hear rank 0's verdict.
  static std::chrono::milliseconds grace(std::chrono::milliseconds deadline) {
    return std::min<std::chrono::milliseconds>(deadline / 2, std::chrono::seconds(10));
  }

  /// The ranks meet to do `what`. Returns whether any gave `flag`. `step` is what an error names,
  /// −1 before the first. Throws Error.
  bool meet(const char* what, std::int64_t step, bool flag, std::chrono::milliseconds deadline);

 private:
  static constexpr int kTag = 7411;
  static constexpr std::size_t kNamed = 4;  // absent ranks that an answer names
  struct Report {
    std::int64_t step = 0;
    std::int64_t flag = 0;
  };
  struct Answer {
    std::int64_t flag = 0;
    std::int64_t absent = 0;
    std::array<std::int64_t, kNamed> ranks{};
  };
  bool preside(const char* what, const Report& own, std::chrono::milliseconds deadline);
  bool attend(const char* what, const Report& own, std::chrono::milliseconds deadline);
  std::vector<int> absent();
  void send_answers(const std::vector<int>& without, std::chrono::milliseconds deadline);
  void require_one_step(const Report& own) const;

  int rank_;
  int size_;
  // Members, since MPI may still write to them after a deadline has passed.
  std::vector<Report> reports_;  // rank 0: of ranks 1, 2, …; else its own
  Answer answer_;
  std::vector<MPI_Request> requests_;
};

}  // namespace hew::dist
