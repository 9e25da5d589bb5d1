#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace hew::test {

/// How a child process that ran an action ended.
struct ChildResult {
  bool exited_cleanly = false;  // through std::exit, with status 0
  std::string error;            // the text of the DataError it threw, "" if none
};

/// Runs the action in a child process where no file may grow beyond `bytes`, as on a full disk.
ChildResult on_small_disk(std::int64_t bytes, const std::function<void()>& action);

/// Runs the action in a child process that is not root.
ChildResult without_rights(const std::function<void()>& action);

}  // namespace hew::test
