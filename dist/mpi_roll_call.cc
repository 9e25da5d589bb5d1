#include "dist/mpi_roll_call.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <span>
#include <thread>

#include "core/error.h"

namespace hew::dist {
namespace {

using Clock = std::chrono::steady_clock;

// Polls until done() or the deadline; returns whether it was done. Quick at first, then polite to
// ranks that share a core.
template <class Done>
bool poll(std::chrono::milliseconds deadline, const Done& done) {
  constexpr std::chrono::microseconds kEager{200};
  constexpr std::chrono::microseconds kNap{50};
  const Clock::time_point start = Clock::now();
  while (!done()) {
    const Clock::duration waited = Clock::now() - start;
    if (waited > deadline)
      return false;
    if (waited > kEager) {
      std::this_thread::sleep_for(kNap);
    } else {
      std::this_thread::yield();
    }
  }
  return true;
}

std::string place(std::int64_t step) {
  return step < 0 ? "[start]" : fmt::format("[train] step {}:", step);
}

template <class Ranks>
Error no_answer(std::int64_t step, const Ranks& ranks, std::int64_t absent,
                std::chrono::milliseconds deadline, const char* what) {
  const std::int64_t unnamed = absent - static_cast<std::int64_t>(std::size(ranks));
  return Error(fmt::format(
      "{} rank{} {}{} {} not answered for {} s ({})", place(step), absent == 1 ? "" : "s",
      fmt::join(ranks, ", "), unnamed > 0 ? fmt::format(" and {} more", unnamed) : "",
      absent == 1 ? "has" : "have", static_cast<double>(deadline.count()) * 1e-3, what));
}

}  // namespace

void check_mpi(int code, const char* api, std::source_location where) {
  if (code == MPI_SUCCESS)
    return;
  std::array<char, MPI_MAX_ERROR_STRING> text{};
  int length = 0;
  MPI_Error_string(code, text.data(), &length);
  throw BackendError(api, code, {text.data(), static_cast<std::size_t>(length)}, where);
}

MpiRollCall::MpiRollCall(int rank, int size)
    : rank_(rank),
      size_(size),
      reports_(rank == 0 ? static_cast<std::size_t>(size - 1) : 1),
      requests_(rank == 0 ? static_cast<std::size_t>(size - 1) : 2, MPI_REQUEST_NULL) {}

bool MpiRollCall::meet(const char* what, std::int64_t step, bool flag,
                       std::chrono::milliseconds deadline) {
  if (size_ == 1)
    return flag;
  const Report own{.step = step, .flag = flag ? 1 : 0};
  return rank_ == 0 ? preside(what, own, deadline) : attend(what, own, deadline);
}

bool MpiRollCall::preside(const char* what, const Report& own, std::chrono::milliseconds deadline) {
  for (int r = 1; r < size_; ++r) {
    const auto i = static_cast<std::size_t>(r - 1);
    check_mpi(
        MPI_Irecv(&reports_[i], sizeof(Report), MPI_BYTE, r, kTag, MPI_COMM_WORLD, &requests_[i]),
        "MPI_Irecv");
  }
  const bool all_came = poll(deadline, [this] {
    int done = 0;
    check_mpi(MPI_Testall(size_ - 1, requests_.data(), &done, MPI_STATUSES_IGNORE), "MPI_Testall");
    return done != 0;
  });
  answer_ = {.flag = own.flag};
  if (!all_came) {
    const std::vector<int> missing = absent();
    answer_.absent = static_cast<std::int64_t>(missing.size());
    const std::size_t named = std::min(missing.size(), kNamed);
    std::copy_n(missing.begin(), named, answer_.ranks.begin());
    if (!missing.empty()) {
      send_answers(missing, grace(deadline));
      throw no_answer(own.step, std::span(answer_.ranks).first(named), answer_.absent, deadline,
                      what);
    }
  }
  require_one_step(own);
  for (const Report& report : reports_) answer_.flag |= report.flag;
  send_answers({}, deadline);
  return answer_.flag != 0;
}

// Gives up the reports that have not come.
std::vector<int> MpiRollCall::absent() {
  std::vector<int> ranks;
  for (int r = 1; r < size_; ++r) {
    MPI_Request& request = requests_[static_cast<std::size_t>(r - 1)];
    int came = 0;
    check_mpi(MPI_Test(&request, &came, MPI_STATUS_IGNORE), "MPI_Test");
    if (came != 0)
      continue;
    ranks.push_back(r);
    check_mpi(MPI_Cancel(&request), "MPI_Cancel");
    check_mpi(MPI_Request_free(&request), "MPI_Request_free");
  }
  return ranks;
}

void MpiRollCall::send_answers(const std::vector<int>& without,
                               std::chrono::milliseconds deadline) {
  for (int r = 1; r < size_; ++r) {
    if (std::find(without.begin(), without.end(), r) != without.end())
      continue;
    check_mpi(MPI_Isend(&answer_, sizeof(Answer), MPI_BYTE, r, kTag, MPI_COMM_WORLD,
                        &requests_[static_cast<std::size_t>(r - 1)]),
              "MPI_Isend");
  }
  const bool sent = poll(deadline, [this] {
    int done = 0;
    check_mpi(MPI_Testall(size_ - 1, requests_.data(), &done, MPI_STATUSES_IGNORE), "MPI_Testall");
    return done != 0;
  });
  require<Error>(sent || !without.empty(), "[roll_call] a rank came and took no answer for {} s",
                 static_cast<double>(deadline.count()) * 1e-3);
}

void MpiRollCall::require_one_step(const Report& own) const {
  for (std::size_t i = 0; i < reports_.size(); ++i) {
    require<Error>(reports_[i].step == own.step, "{} rank {} is at step {}", place(own.step), i + 1,
                   reports_[i].step);
  }
}

bool MpiRollCall::attend(const char* what, const Report& own, std::chrono::milliseconds deadline) {
  reports_.front() = own;
  check_mpi(
      MPI_Irecv(&answer_, sizeof(Answer), MPI_BYTE, 0, kTag, MPI_COMM_WORLD, requests_.data()),
      "MPI_Irecv");
  check_mpi(
      MPI_Isend(reports_.data(), sizeof(Report), MPI_BYTE, 0, kTag, MPI_COMM_WORLD, &requests_[1]),
      "MPI_Isend");
  const bool heard = poll(deadline + grace(deadline), [this] {
    int done = 0;
    check_mpi(MPI_Testall(2, requests_.data(), &done, MPI_STATUSES_IGNORE), "MPI_Testall");
    return done != 0;
  });
  if (!heard) {
    check_mpi(MPI_Cancel(requests_.data()), "MPI_Cancel");
    for (MPI_Request& request : requests_) {
      if (request != MPI_REQUEST_NULL)
        check_mpi(MPI_Request_free(&request), "MPI_Request_free");
    }
    throw no_answer(own.step, std::array<int, 1>{0}, 1, deadline, what);
  }
  if (answer_.absent > 0) {
    const std::size_t named = std::min(static_cast<std::size_t>(answer_.absent), kNamed);
    throw no_answer(own.step, std::span(answer_.ranks).first(named), answer_.absent, deadline,
                    what);
  }
  return answer_.flag != 0;
}

}  // namespace hew::dist
