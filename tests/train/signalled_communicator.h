#pragma once

#include <csignal>
#include <cstdlib>
#include <functional>
#include <utility>
#include <vector>

#include "dist/comm.h"

namespace hew::test {

/// Another communicator, but that something happens to this rank once it has answered so many roll
/// calls: a stop signal, if nothing else is named.
class SignalledCommunicator final : public dist::Communicator {
 public:
  SignalledCommunicator(
      dist::Communicator& inner, int after,
      std::function<void()> event = [] { std::raise(SIGTERM); })
      : Communicator(inner.rank(), inner.size()),
        inner_(inner),
        after_(after),
        event_(std::move(event)) {}

  int roll_calls() const { return roll_calls_; }

  void all_reduce(const View& view, dist::Reduction reduction, const Stream& stream) override {
    inner_.all_reduce(view, reduction, stream);
  }
  void reduce(const View& view, int root, dist::Reduction reduction,
              const Stream& stream) override {
    inner_.reduce(view, root, reduction, stream);
  }
  void reduce_scatter(const ConstView& in, const View& out, dist::Reduction reduction,
                      const Stream& stream) override {
    inner_.reduce_scatter(in, out, reduction, stream);
  }
  void broadcast(const View& view, int root, const Stream& stream) override {
    inner_.broadcast(view, root, stream);
  }
  void all_gather(const ConstView& mine, const View& all, const Stream& stream) override {
    inner_.all_gather(mine, all, stream);
  }
  std::vector<std::byte> all_gather(std::span<const std::byte> mine) override {
    return inner_.all_gather(mine);
  }
  void barrier() override { inner_.barrier(); }
  bool roll_call(bool flag) override {
    const bool any = inner_.roll_call(flag);
    if (++roll_calls_ == after_)
      event_();
    return any;
  }
  void set_step(std::int64_t step) override { inner_.set_step(step); }
  void set_deadline(std::chrono::milliseconds deadline) override { inner_.set_deadline(deadline); }
  void give_up() noexcept override { inner_.give_up(); }
  [[noreturn]] void abort(int code) noexcept override {
    inner_.abort(code);
    std::_Exit(code);  // GCC does not see that the call never returns
  }

 private:
  dist::Communicator& inner_;
  int after_;  // 0: never
  std::function<void()> event_;
  int roll_calls_ = 0;
};

}  // namespace hew::test
