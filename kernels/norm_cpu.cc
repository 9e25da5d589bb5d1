#include <algorithm>
#include <cmath>

#include "kernels/array_map.h"
#include "kernels/norm.h"

namespace hew::kernels {
namespace {

// Fewer elements than this are not worth a second thread.
constexpr std::int64_t kParallel = 8192;

// Rows are cut into chunks by their number alone; each sums its part of a weight's gradient, and
// the parts are added in order, so that the number of threads does not change the result.
struct RowChunks {
  explicit RowChunks(std::int64_t all_rows)
      : rows(all_rows),
        step(std::max(kMinRows, (all_rows + kMaxChunks - 1) / kMaxChunks)),
        count((all_rows + step - 1) / step) {}
  std::int64_t begin(std::int64_t chunk) const { return chunk * step; }
  std::int64_t end(std::int64_t chunk) const { return std::min(rows, (chunk + 1) * step); }

  static constexpr std::int64_t kMinRows = 16;
  static constexpr std::int64_t kMaxChunks = 64;
  std::int64_t rows;
  std::int64_t step;
  std::int64_t count;
};

// out[c] ← Σ_chunk partial[chunk, part, c]
template <class T>
void sum_chunks(const Tensor& partial, std::int64_t part, const View& out) {
  if (!out)
    return;
  const std::int64_t width = partial.size(2);
  const std::int64_t stride = partial.size(1) * width;
  ArrayMap<T> sum(out.as<T>(), width);
  sum.setZero();
  for (std::int64_t chunk = 0; chunk < partial.size(0); ++chunk) {
    sum += ConstArrayMap<T>(partial.data<T>() + chunk * stride + part * width, width);
  }
}

// The row that is normalised, after x + residual is stored where there is a residual.
template <class T, class Args>
const T* summed_row(const Args& args, std::int64_t row, std::int64_t width) {
  const T* x = args.x.template as<T>() + row * width;
  if (!args.residual)
    return x;
  T* sum = args.sum.template as<T>() + row * width;
  ArrayMap<T>(sum, width) = ConstArrayMap<T>(x, width) +
                            ConstArrayMap<T>(args.residual.template as<T>() + row * width, width);
  return sum;
}

// dx[row] ← gradient + dsum[row]
template <class T, class Args, class Gradient>
void store_gradient(const Args& args, std::int64_t row, std::int64_t width,
                    const Gradient& gradient) {
  ArrayMap<T> dx(args.dx.template as<T>() + row * width, width);
  if (args.dsum)
    dx = gradient + ConstArrayMap<T>(args.dsum.template as<T>() + row * width, width);
  else
    dx = gradient;
}

}  // namespace

template <class T>
void layer_norm_forward(Cpu /*backend*/, const LayerNormForward& args) {
  const std::int64_t width = args.weight.numel();
  const std::int64_t rows = args.mean.numel();
  const ConstArrayMap<T> weight(args.weight.as<T>(), width);
#pragma omp parallel for if (args.x.numel() > kParallel)
  for (std::int64_t row = 0; row < rows; ++row) {
    const ConstArrayMap<T> x(summed_row<T>(args, row, width), width);
    ArrayMap<T> y(args.y.as<T>() + row * width, width);
    const T mean = x.mean();
    const T rstd = T(1) / std::sqrt((x - mean).square().mean() + static_cast<T>(args.eps));
    y = (x - mean) * rstd * weight;
    if (args.bias)
      y += ConstArrayMap<T>(args.bias.as<T>(), width);
    args.mean.as<T>()[row] = mean;
    args.rstd.as<T>()[row] = rstd;
  }
}

template <class T>
void layer_norm_backward(Cpu backend, const LayerNormBackward& args) {
  const std::int64_t width = args.weight.numel();
  const RowChunks chunks(args.mean.numel());
  const ConstArrayMap<T> weight(args.weight.as<T>(), width);
  Tensor partial = Tensor::zeros({chunks.count, 2, width}, kDTypeOf<T>, backend.stream);
  T* sums = partial.data<T>();
#pragma omp parallel for if (args.x.numel() > kParallel)
  for (std::int64_t chunk = 0; chunk < chunks.count; ++chunk) {
    ArrayMap<T> dweight(sums + chunk * 2 * width, width);
    ArrayMap<T> dbias(sums + (chunk * 2 + 1) * width, width);
    for (std::int64_t row = chunks.begin(chunk); row < chunks.end(chunk); ++row) {
      const ConstArrayMap<T> x(args.x.as<T>() + row * width, width);
      const ConstArrayMap<T> dy(args.dy.as<T>() + row * width, width);
      const T mean = args.mean.as<T>()[row];
      const T rstd = args.rstd.as<T>()[row];
      const T mean_g = (dy * weight).mean();
      const T mean_gx = (dy * weight * (x - mean)).mean() * rstd;
      dweight += dy * (x - mean) * rstd;
      dbias += dy;
      store_gradient<T>(args, row, width,
                        rstd * (dy * weight - mean_g - (x - mean) * (rstd * mean_gx)));
    }
  }
  sum_chunks<T>(partial, 0, args.dweight);
  sum_chunks<T>(partial, 1, args.dbias);
}

template <class T>
void rms_norm_forward(Cpu /*backend*/, const RmsNormForward& args) {
  const std::int64_t width = args.weight.numel();
  const std::int64_t rows = args.rstd.numel();
  const ConstArrayMap<T> weight(args.weight.as<T>(), width);
#pragma omp parallel for if (args.x.numel() > kParallel)
  for (std::int64_t row = 0; row < rows; ++row) {
    const ConstArrayMap<T> x(summed_row<T>(args, row, width), width);
    ArrayMap<T> y(args.y.as<T>() + row * width, width);
    const T rstd = T(1) / std::sqrt(x.square().mean() + static_cast<T>(args.eps));
    y = x * rstd * weight;
    args.rstd.as<T>()[row] = rstd;
  }
}

template <class T>
void rms_norm_backward(Cpu backend, const RmsNormBackward& args) {
  const std::int64_t width = args.weight.numel();
  const RowChunks chunks(args.rstd.numel());
  const ConstArrayMap<T> weight(args.weight.as<T>(), width);
  Tensor partial = Tensor::zeros({chunks.count, 1, width}, kDTypeOf<T>, backend.stream);
  T* sums = partial.data<T>();
#pragma omp parallel for if (args.x.numel() > kParallel)
  for (std::int64_t chunk = 0; chunk < chunks.count; ++chunk) {
    ArrayMap<T> dweight(sums + chunk * width, width);
    for (std::int64_t row = chunks.begin(chunk); row < chunks.end(chunk); ++row) {
      const ConstArrayMap<T> x(args.x.as<T>() + row * width, width);
      const ConstArrayMap<T> dy(args.dy.as<T>() + row * width, width);
      const T rstd = args.rstd.as<T>()[row];
      const T mean_gx = (dy * weight * x).mean() * rstd;
      dweight += dy * x * rstd;
      store_gradient<T>(args, row, width, rstd * (dy * weight - x * (rstd * mean_gx)));
    }
  }
  sum_chunks<T>(partial, 0, args.dweight);
}

#define HEW_INSTANTIATE(T)                                             \
  template void layer_norm_forward<T>(Cpu, const LayerNormForward&);   \
  template void layer_norm_backward<T>(Cpu, const LayerNormBackward&); \
  template void rms_norm_forward<T>(Cpu, const RmsNormForward&);       \
  template void rms_norm_backward<T>(Cpu, const RmsNormBackward&);
HEW_INSTANTIATE(float)
HEW_INSTANTIATE(double)
#undef HEW_INSTANTIATE

}  // namespace hew::kernels
