#include "app/bench_kernels_timer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <utility>
#include <vector>

#include "app/bench_turns.h"
#include "core/cuda_device.h"
#include "kernels/product_settings.h"

namespace hew {
namespace {

// Ten times the L2 of an H100.
constexpr double kWorkingSetBytes = 512e6;
constexpr std::int64_t kMostSets = 64;
constexpr std::int64_t kWarmUps = 3;
constexpr std::int64_t kCopyBytes = std::int64_t{1} << 30U;

// Dense multiply-adds of an H100 SXM, 2 FLOP each.
double peak_flops(DType dtype, bool tf32) {
  if (dtype == DType::kBFloat16)
    return 989e12;
  return tf32 ? 494e12 : 67e12;
}

}  // namespace

KernelTimer::KernelTimer(const BenchKernelsOptions& options, Print print)
    : print_(std::move(print)),
      stream_(make_stream(parse_device(options.device))),
      tf32_(options.dtype == "tf32"),
      dtype_(tf32_ ? DType::kFloat32 : parse_dtype(options.dtype)),
      repeat_(options.repeat),
      scale_(options.scale),
      random_(stream_) {
  stream_.state->get<kernels::ProductSettings>(stream_).tf32 = tf32_;
  print_(fmt::format("{} · {} · median of {}", cuda::describe(stream_.device.index),
                     tf32_ ? "tf32" : name_of(dtype_), repeat_));
  time_copy();
}

std::int64_t KernelTimer::scaled(std::int64_t count) const {
  return std::max<std::int64_t>(1, std::llround(static_cast<double>(count) * scale_));
}

double KernelTimer::bytes(std::int64_t elements) const {
  return static_cast<double>(elements * size_of(dtype_));
}

double KernelTimer::median_seconds(const KernelWork& work,
                                   const std::function<KernelCall()>& make) const {
  const double sets = std::ceil(kWorkingSetBytes / std::max(work.bytes, 1.0));
  const std::int64_t most = std::min<std::int64_t>(kMostSets, kWarmUps + repeat_);
  const std::int64_t count = sets < static_cast<double>(most) ? std::llround(sets) : most;
  std::vector<KernelCall> calls;
  for (std::int64_t i = 0; i < count; ++i) calls.push_back(make());
  for (std::int64_t i = 0; i < std::max(kWarmUps, count); ++i) {
    calls[static_cast<std::size_t>(i % count)].run();
  }
  // Nothing waits in between: the host stays ahead of the device.
  std::deque<cuda::Mark> begins(static_cast<std::size_t>(repeat_));
  std::deque<cuda::Mark> ends(static_cast<std::size_t>(repeat_));
  for (std::size_t i = 0; i < ends.size(); ++i) {
    const KernelCall& call = calls[i % calls.size()];
    if (call.restore)
      call.restore();
    begins[i].record(stream_);
    call.run();
    ends[i].record(stream_);
  }
  synchronize(stream_);
  std::vector<double> seconds;
  for (std::size_t i = 0; i < ends.size(); ++i) seconds.push_back(ends[i].seconds_since(begins[i]));
  return median(std::move(seconds));
}

void KernelTimer::print_line(const KernelWork& work, double seconds) const {
  const bool product = work.flops > 0;
  const double rate = (product ? work.flops : work.bytes) / seconds;
  print_(fmt::format("{:<68}{:>10.3f} ms{:>9.1f} {:<7}{:>6.1f} % of {}{}",
                     work.kernel + " " + work.shape, seconds * 1e3, rate * (product ? 1e-12 : 1e-9),
                     product ? "TFLOP/s" : "GB/s",
                     100 * rate / (product ? peak_flops(dtype_, tf32_) : copy_rate_),
                     product ? "peak" : "copy", work.note ? "  " + work.note() : ""));
}

void KernelTimer::time(const KernelWork& work, const std::function<KernelCall()>& make) {
  print_line(work, median_seconds(work, make));
}

void KernelTimer::time_copy() {
  const std::int64_t n = scaled(kCopyBytes / size_of(DType::kFloat32));
  const auto nbytes = static_cast<double>(n * size_of(DType::kFloat32));
  const KernelWork work{
      .kernel = "copy", .shape = fmt::format("{:.0f} MB", nbytes * 1e-6), .bytes = 2 * nbytes};
  const double seconds = median_seconds(work, [&] {
    const Tensor from = random({n}, DType::kFloat32);
    Tensor to = empty({n}, DType::kFloat32);
    return KernelCall{.run = [from, to]() mutable { to.copy_from(from); }};
  });
  copy_rate_ = work.bytes / seconds;
  print_line(work, seconds);
}

}  // namespace hew
