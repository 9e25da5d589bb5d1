#include "app/machine_rate.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <vector>

#include "core/error.h"
#include "kernels/bsr_vector_cpu.h"

namespace hew {
namespace {

constexpr int kRuns = 12;
// Enough chains to hide the latency of a multiply-add on two pipes.
constexpr int kChains = 12;
constexpr std::int64_t kSteps = 1'000'000;
// Far beyond any cache, for all threads together.
constexpr std::size_t kCopyBytes = std::size_t{256} << 20;

// Seconds of the fastest of kRuns calls.
template <class Body>
double best_seconds(const Body& body) {
  double best = 1e30;
  for (int run = 0; run < kRuns; ++run) {
    const auto start = std::chrono::steady_clock::now();
    body();
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
    best = std::min(best, spent.count());
  }
  return best;
}

template <class T>
T chain_multiply_adds(T start) {
  using V = kernels::Vector<T, kernels::kVectorBytes / static_cast<int>(sizeof(T))>;
  typename V::Type sum[kChains] = {};
  typename V::Type factor = {};
  typename V::Type term = {};
  factor += T(0.5);
  term += start;
  // Unlike starts, or the compiler would compute one chain and count twelve.
  for (int i = 0; i < kChains; ++i) sum[i] += static_cast<T>(i);
  for (std::int64_t step = 0; step < kSteps; ++step) {
    kernels::unroll<kChains>([&](auto i) __attribute__((always_inline)) {
      sum[i] = sum[i] * factor + term;
    });
  }
  T total = 0;
  for (const auto& chain : sum) total += chain[0];
  return total;
}

template <class T>
double multiply_add_flops(int threads) {
  std::vector<T> results(static_cast<std::size_t>(threads));
  const double seconds = best_seconds([&] {
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int t = 0; t < threads; ++t) {
      const auto slot = static_cast<std::size_t>(t);
      results[slot] = chain_multiply_adds(static_cast<T>(t) + results[slot]);
    }
  });
  constexpr double kLanes = kernels::kVectorBytes / static_cast<double>(sizeof(T));
  return 2.0 * kLanes * kChains * static_cast<double>(kSteps) * threads / seconds;
}

double copy_bytes(int threads) {
  std::vector<char> from(kCopyBytes, 1);
  std::vector<char> to(kCopyBytes, 2);
  const std::size_t share = kCopyBytes / static_cast<std::size_t>(threads);
  const double seconds = best_seconds([&] {
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int t = 0; t < threads; ++t) {
      const std::size_t begin = static_cast<std::size_t>(t) * share;
      std::memcpy(to.data() + begin, from.data() + begin, share);
    }
  });
  return 2.0 * static_cast<double>(share * static_cast<std::size_t>(threads)) / seconds;
}

}  // namespace

MachineRate measure_machine(DType dtype, int threads) {
  require<DtypeError>(dtype == DType::kFloat32 || dtype == DType::kFloat64,
                      "[machine_rate] cannot compute in {}", name_of(dtype));
  return {.multiply_add_flops = dtype == DType::kFloat32 ? multiply_add_flops<float>(threads)
                                                         : multiply_add_flops<double>(threads),
          .copy_bytes = copy_bytes(threads)};
}

}  // namespace hew
