#pragma once

#include <cstdint>
#include <exception>
#include <vector>

namespace hew {

/// The most threads that anything may be told to take: starting many more ends a process.
inline constexpr int kMostThreads = 4096;

/// body(i) for i from 0 to n − 1, in any order, on the threads of the process. Throws what the
/// lowest i that failed threw, once all have been tried.
template <class Body>
void for_each_parallel(std::int64_t n, const Body& body) {
  std::vector<std::exception_ptr> errors(static_cast<std::size_t>(n));
#pragma omp parallel for schedule(dynamic) if (n > 1)
  for (std::int64_t i = 0; i < n; ++i) {
    try {
      body(static_cast<std::size_t>(i));
    } catch (...) {
      errors[static_cast<std::size_t>(i)] = std::current_exception();
    }
  }
  for (const std::exception_ptr& error : errors) {
    if (error)
      std::rethrow_exception(error);
  }
}

}  // namespace hew
