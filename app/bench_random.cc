#include "app/bench_random.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "core/rng.h"
#include "kernels/elementwise.h"

namespace hew {
namespace {

constexpr std::uint64_t kDataKey = 1;
// Both prime, so that no tensor lines up with another: 16 MiB of float32.
constexpr std::int64_t kPatternElements = 4194301;
constexpr std::int64_t kOffsetStep = 1000003;

Tensor draw_pattern(const Stream& stream) {
  std::vector<float> values(static_cast<std::size_t>(kPatternElements));
#pragma omp parallel for
  for (std::int64_t i = 0; i < kPatternElements; ++i) {
    values[static_cast<std::size_t>(i)] =
        static_cast<float>(hew::normal(kDataKey, 0, static_cast<std::uint64_t>(i)));
  }
  return Tensor::from(values, {kPatternElements}, stream);
}

}  // namespace

const Tensor& RandomTensors::pattern(DType dtype) {
  const auto found = patterns_.find(dtype);
  if (found != patterns_.end())
    return found->second;
  if (dtype == DType::kFloat32)
    return patterns_.emplace(dtype, draw_pattern(stream_)).first->second;
  Tensor converted = Tensor::empty({kPatternElements}, dtype, stream_);
  kernels::cast(pattern(DType::kFloat32), converted, stream_);
  return patterns_.emplace(dtype, std::move(converted)).first->second;
}

Tensor RandomTensors::normal(const Shape& shape, DType dtype, double deviation) {
  const Tensor& source = pattern(dtype);
  Tensor out = Tensor::empty(shape, dtype, stream_);
  const Tensor flat = out.reshape({out.numel()});
  offset_ = (offset_ + kOffsetStep) % kPatternElements;
  std::int64_t from = offset_;
  for (std::int64_t at = 0; at < flat.numel();) {
    const std::int64_t count = std::min(flat.numel() - at, kPatternElements - from);
    flat.rows(at, count).copy_from(source.rows(from, count));
    at += count;
    from = 0;
  }
  if (deviation != 1)
    kernels::scale(deviation, out, stream_);
  return out;
}

}  // namespace hew
