#include <omp.h>

#include <Eigen/Core>
#include <algorithm>
#include <array>
#include <cmath>

#include "kernels/array_map.h"
#include "kernels/attention_sizes.h"

// A block of query rows at a time: their scores against all the keys they see fit in the second
// level cache, and the causal triangle is cut off in steps of a block.

namespace hew::kernels {
namespace {

constexpr std::int64_t kQueryRows = 32;
// Elements of a 64-byte line of float32. Score rows start on lines and are padded to whole ones,
// so that no exponential is left to a scalar tail.
constexpr std::int64_t kLine = 16;
// Fewer multiplications than this are not worth a second thread.
constexpr std::int64_t kParallel = 50000;

template <class T>
using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
// Rows of one head of [B, T, H, D]: H·D apart.
template <class T>
using HeadMap = Eigen::Map<Matrix<T>, Eigen::Unaligned, Eigen::OuterStride<>>;
template <class T>
using ConstHeadMap = Eigen::Map<const Matrix<T>, Eigen::Unaligned, Eigen::OuterStride<>>;
template <class T>
using ScoreMap = Eigen::Map<Matrix<T>, Eigen::Aligned64, Eigen::OuterStride<>>;
template <class T>
using LineMap = Eigen::Map<Eigen::Array<T, Eigen::Dynamic, 1>, Eigen::Aligned64>;

std::int64_t whole_lines(std::int64_t n) {
  return (n + kLine - 1) / kLine * kLine;
}

// Sizes of one call, and where its heads lie.
struct Geometry : AttentionSizes {
  using AttentionSizes::AttentionSizes;

  // Keys that query i sees.
  std::int64_t visible(std::int64_t i) const { return causal ? i + keys - queries + 1 : keys; }
  bool worth_threads() const { return batch * heads * queries * keys * width > kParallel; }

  // Rows [begin, begin + count) of head h of batch entry b; x [B, T, heads, D].
  template <class T>
  HeadMap<T> rows(const View& x, std::int64_t b, std::int64_t h, std::int64_t begin,
                  std::int64_t count) const {
    const std::int64_t stride = x.shape[2] * width;
    return {x.as<T>() + (b * x.shape[1] + begin) * stride + h * width, count, width,
            Eigen::OuterStride<>(stride)};
  }
  template <class T>
  ConstHeadMap<T> rows(const ConstView& x, std::int64_t b, std::int64_t h, std::int64_t begin,
                       std::int64_t count) const {
    const std::int64_t stride = x.shape[2] * width;
    return {x.as<T>() + (b * x.shape[1] + begin) * stride + h * width, count, width,
            Eigen::OuterStride<>(stride)};
  }
};

// Score matrices of each thread, [threads, matrices, kQueryRows, Tk in whole lines].
template <class T>
class Scratch {
 public:
  Scratch(const Geometry& g, std::int64_t matrices, const Stream& stream)
      : stride_(whole_lines(g.keys)),
        matrices_(matrices),
        memory_(Tensor::empty({omp_get_max_threads(), matrices, kQueryRows, stride_}, kDTypeOf<T>,
                              stream)),
        data_(memory_.data<T>()) {}

  // The calling thread's matrix.
  ScoreMap<T> matrix(std::int64_t which, std::int64_t rows, std::int64_t columns) const {
    T* const start = data_ + (omp_get_thread_num() * matrices_ + which) * kQueryRows * stride_;
    return {start, rows, columns, Eigen::OuterStride<>(stride_)};
  }

 private:
  std::int64_t stride_;
  std::int64_t matrices_;
  Tensor memory_;
  T* data_;
};

// row[j] ← e^(scale·row[j] − shift) for j < visible, and 0 from there to the end of the line.
template <class T>
LineMap<T> exponentials(T* row, std::int64_t visible, T scale, T shift) {
  LineMap<T> line(row, whole_lines(visible));
  const std::int64_t rest = line.size() - visible;
  line.tail(rest).setConstant(row[0]);  // any value of the row: it is about to be dropped
  line = (line * scale - shift).exp();
  line.tail(rest).setZero();
  return line;
}

template <class T>
void forward_block(const AttentionForward& args, const Geometry& g, const Scratch<T>& scratch,
                   std::int64_t b, std::int64_t h, std::int64_t begin) {
  const std::int64_t count = std::min(kQueryRows, g.queries - begin);
  const std::int64_t seen = g.visible(begin + count - 1);
  const auto k = g.rows<T>(args.k, b, h / g.group(), 0, seen);
  const auto v = g.rows<T>(args.v, b, h / g.group(), 0, seen);
  auto p = scratch.matrix(0, count, seen);  // [count, seen]
  p.noalias() = g.rows<T>(args.q, b, h, begin, count) * k.transpose();

  const T scale = static_cast<T>(g.scale);
  T* const lse = args.lse.as<T>() + (b * g.heads + h) * g.queries + begin;
  std::array<T, kQueryRows> inverse_sums;
  for (std::int64_t r = 0; r < count; ++r) {
    const std::int64_t visible = g.visible(begin + r);
    T* const row = p.row(r).data();
    const T shift = scale * ConstArrayMap<T>(row, visible).maxCoeff();
    const T sum = exponentials(row, visible, scale, shift).sum();
    std::fill(row + visible, row + seen, T(0));
    inverse_sums[static_cast<std::size_t>(r)] = T(1) / sum;
    lse[r] = shift + std::log(sum);
  }
  auto y = g.rows<T>(args.y, b, h, begin, count);
  y.noalias() = p * v;
  for (std::int64_t r = 0; r < count; ++r) y.row(r) *= inverse_sums[static_cast<std::size_t>(r)];
}

// Adds one block of queries' share to dk and dv of their key head, and writes their dq.
template <class T>
void backward_block(const AttentionBackward& args, const Geometry& g, const Scratch<T>& scratch,
                    std::int64_t b, std::int64_t h, std::int64_t begin) {
  const std::int64_t count = std::min(kQueryRows, g.queries - begin);
  const std::int64_t seen = g.visible(begin + count - 1);
  const std::int64_t key_head = h / g.group();
  const auto q = g.rows<T>(args.q, b, h, begin, count);
  const auto k = g.rows<T>(args.k, b, key_head, 0, seen);
  const auto v = g.rows<T>(args.v, b, key_head, 0, seen);
  const auto y = g.rows<T>(args.y, b, h, begin, count);
  const auto dy = g.rows<T>(args.dy, b, h, begin, count);
  auto p = scratch.matrix(0, count, seen);   // [count, seen]
  auto ds = scratch.matrix(1, count, seen);  // [count, seen]
  p.noalias() = q * k.transpose();
  ds.noalias() = dy * v.transpose();

  const T scale = static_cast<T>(g.scale);
  const T* const lse = args.lse.as<T>() + (b * g.heads + h) * g.queries + begin;
  for (std::int64_t r = 0; r < count; ++r) {
    const std::int64_t visible = g.visible(begin + r);
    T* const row = p.row(r).data();
    exponentials(row, visible, scale, lse[r]);
    std::fill(row + visible, row + seen, T(0));
    const T delta = dy.row(r).dot(y.row(r));  // Σ_j p[r, j]·(dy[r]·v[j])
    ds.row(r).array() = (ds.row(r).array() - delta) * p.row(r).array() * scale;
  }
  g.rows<T>(args.dv, b, key_head, 0, seen).noalias() += p.transpose() * dy;
  g.rows<T>(args.dk, b, key_head, 0, seen).noalias() += ds.transpose() * q;
  g.rows<T>(args.dq, b, h, begin, count).noalias() = ds * k;
}

}  // namespace

template <class T>
void attention_forward(Cpu backend, const AttentionForward& args) {
  const Geometry g(args.q, args.k, args.options);
  const Scratch<T> scratch(g, 1, backend.stream);
  const std::int64_t blocks = (g.queries + kQueryRows - 1) / kQueryRows;
#pragma omp parallel for schedule(dynamic) if (g.worth_threads())
  for (std::int64_t unit = 0; unit < g.batch * g.heads * blocks; ++unit) {
    const std::int64_t head = unit / blocks;
    forward_block<T>(args, g, scratch, head / g.heads, head % g.heads, unit % blocks * kQueryRows);
  }
}

template <class T>
void attention_backward(Cpu backend, const AttentionBackward& args) {
  const Geometry g(args.q, args.k, args.options);
  const Scratch<T> scratch(g, 2, backend.stream);
  // One thread owns a key head and adds its query heads and their blocks in order.
#pragma omp parallel for schedule(dynamic) if (g.worth_threads())
  for (std::int64_t unit = 0; unit < g.batch * g.key_heads; ++unit) {
    const std::int64_t b = unit / g.key_heads;
    const std::int64_t key_head = unit % g.key_heads;
    g.rows<T>(args.dk, b, key_head, 0, g.keys).setZero();
    g.rows<T>(args.dv, b, key_head, 0, g.keys).setZero();
    for (std::int64_t i = 0; i < g.group(); ++i) {
      for (std::int64_t begin = 0; begin < g.queries; begin += kQueryRows) {
        backward_block<T>(args, g, scratch, b, key_head * g.group() + i, begin);
      }
    }
  }
}

#define HEW_INSTANTIATE(T)                                          \
  template void attention_forward<T>(Cpu, const AttentionForward&); \
  template void attention_backward<T>(Cpu, const AttentionBackward&);
HEW_INSTANTIATE(float)
HEW_INSTANTIATE(double)
#undef HEW_INSTANTIATE

}  // namespace hew::kernels
