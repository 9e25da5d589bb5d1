#include "tests/io/child.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>

#include "tests/io/scratch.h"

namespace hew::test {
namespace {

// exit(), not _exit(): what libraries do at the end of a program is part of the test.
[[noreturn]] void run_child(int pipe, const std::function<void()>& action) {
  const std::string error = data_error_of(action);
  const bool sent = ::write(pipe, error.data(), error.size()) == std::ssize(error);
  std::exit(sent ? 0 : 1);
}

ChildResult in_child(const std::function<void()>& action) {
  std::array<int, 2> ends{};
  if (::pipe(ends.data()) != 0)
    throw std::runtime_error("no pipe");
  std::fflush(nullptr);
  const pid_t child = ::fork();
  if (child < 0)
    throw std::runtime_error("no child");
  if (child == 0)
    run_child(ends[1], action);
  ::close(ends[1]);
  ChildResult result;
  std::array<char, 4096> buffer{};
  for (ssize_t got = 0; (got = ::read(ends[0], buffer.data(), buffer.size())) > 0;) {
    result.error.append(buffer.data(), static_cast<std::size_t>(got));
  }
  ::close(ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  result.exited_cleanly = WIFEXITED(status) && WEXITSTATUS(status) == 0;
  return result;
}

}  // namespace

ChildResult on_small_disk(std::int64_t bytes, const std::function<void()>& action) {
  return in_child([&] {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{static_cast<rlim_t>(bytes), static_cast<rlim_t>(bytes)};
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0)
      throw std::runtime_error("no limit");
    action();
  });
}

ChildResult without_rights(const std::function<void()>& action) {
  return in_child([&] {
    constexpr uid_t kNobody = 65534;
    if (::geteuid() == 0 && ::setuid(kNobody) != 0)
      throw std::runtime_error("still root");
    action();
  });
}

}  // namespace hew::test
