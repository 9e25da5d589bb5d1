#include "autograd/linear_cross_entropy.h"

#include <algorithm>

#include "core/error.h"
#include "kernels/cross_entropy.h"
#include "kernels/elementwise.h"
#include "kernels/linear.h"

namespace hew::ag {
namespace {

// Logits of this size keep a GPU busy for about a millisecond: launches no longer count.
constexpr std::int64_t kChunkBytes = std::int64_t{256} << 20;
// Rows that the tiles of every matrix product divide.
constexpr std::int64_t kChunkMultiple = 256;

std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

std::int64_t chunk_length(std::int64_t tokens, std::int64_t bytes_per_token) {
  const std::int64_t fitting = kChunkBytes / std::max<std::int64_t>(1, bytes_per_token);
  if (tokens <= std::max(fitting, kChunkMultiple))
    return tokens;
  const std::int64_t most = std::max(kChunkMultiple, fitting / kChunkMultiple * kChunkMultiple);
  const std::int64_t even = ceil_div(tokens, ceil_div(tokens, most));
  return ceil_div(even, kChunkMultiple) * kChunkMultiple;
}

void check(const Variable& x, const Variable& w, const Tensor& targets,
           const LinearCrossEntropyOptions& options) {
  constexpr std::string_view kOp = "linear_cross_entropy";
  require<ShapeError>(x.shape().rank() == 2 && w.shape().rank() == 2 && x.size(1) == w.size(1),
                      "[{}] x {} and w {} are not [M, C] and [V, C]", kOp, to_string(x.shape()),
                      to_string(w.shape()));
  kernels::require_shape(kOp, "targets", targets, {x.size(0)});
  kernels::require_dtype(kOp, "targets", targets, DType::kInt32);
  require<ConfigError>(options.chunk_tokens >= 0, "[{}] chunks of {} tokens", kOp,
                       options.chunk_tokens);
  kernels::check_targets(targets, w.size(0));
}

// The gradients of x and w that the tape wants; the others stay undefined.
struct Gradients {
  Tensor dx;  // [M, C]
  Tensor dw;  // [V, C]

  bool wanted() const { return dx.defined() || dw.defined(); }
};

Gradients room_for_gradients(const Variable& x, const Variable& w) {
  const DType sums = accumulator_of(w.dtype());
  Gradients out;
  if (x.requires_grad())
    out.dx = Tensor::empty(x.shape(), x.dtype(), x.stream());
  if (w.requires_grad()) {
    const bool written = x.size(0) > 0;
    out.dw = written ? Tensor::empty(w.shape(), sums, w.stream())
                     : Tensor::zeros(w.shape(), sums, w.stream());
  }
  return out;
}

// Some rows of the batch, from `begin` on, and room for their logits.
struct Chunk {
  std::int64_t begin = 0;
  Tensor x;        // [m, C]
  Tensor targets;  // [m]
  Tensor logits;   // [m, V]
  Tensor losses;   // [m]
};

void differentiate(Chunk& chunk, const Tensor& w, const Tensor& weight, Gradients& gradients) {
  const Stream& stream = w.stream();
  kernels::fused_cross_entropy(
      {.logits = chunk.logits, .targets = chunk.targets, .weight = weight, .losses = chunk.losses},
      stream);
  if (gradients.dx.defined()) {
    kernels::linear_input_gradient(
        {.dy = chunk.logits, .w = w, .dx = gradients.dx.rows(chunk.begin, chunk.x.size(0))},
        stream);
  }
  if (gradients.dw.defined()) {
    kernels::linear_weight_gradient(
        {.dy = chunk.logits, .x = chunk.x, .dw = gradients.dw, .accumulate = chunk.begin > 0},
        stream);
  }
}

void evaluate(Chunk& chunk) {
  const Stream& stream = chunk.losses.stream();
  Tensor lse = Tensor::empty(chunk.losses.shape(), chunk.losses.dtype(), stream);
  kernels::token_losses(
      {.logits = chunk.logits, .targets = chunk.targets, .losses = chunk.losses, .lse = lse},
      stream);
}

}  // namespace

Variable linear_cross_entropy(const Variable& x, const Variable& w, const Tensor& targets,
                              const LinearCrossEntropyOptions& options) {
  check(x, w, targets, options);
  const Stream& stream = x.stream();
  const std::int64_t tokens = x.size(0);
  const DType sums = accumulator_of(x.dtype());
  Tensor losses = Tensor::empty({tokens}, sums, stream);
  Tensor weight = Tensor::empty({}, sums, stream);
  Tensor mean = Tensor::empty({}, sums, stream);
  Gradients gradients = room_for_gradients(x, w);
  if (gradients.wanted())
    kernels::target_weight(targets, options.scale, weight, stream);

  const std::int64_t length = options.chunk_tokens > 0
                                  ? std::min(options.chunk_tokens, tokens)
                                  : chunk_length(tokens, w.size(0) * size_of(x.dtype()));
  Tensor room = Tensor::empty({length, w.size(0)}, x.dtype(), stream);
  for (std::int64_t begin = 0; begin < tokens; begin += length) {
    const std::int64_t count = std::min(length, tokens - begin);
    Chunk chunk{.begin = begin,
                .x = x.value().rows(begin, count),
                .targets = targets.rows(begin, count),
                .logits = room.rows(0, count),
                .losses = losses.rows(begin, count)};
    kernels::linear_forward({.x = chunk.x, .w = w.value(), .y = chunk.logits}, stream);
    if (gradients.wanted()) {
      differentiate(chunk, w.value(), weight, gradients);
    } else {
      evaluate(chunk);
    }
  }
  kernels::mean_loss({.losses = losses,
                      .targets = targets,
                      .scale = options.scale,
                      .mean = mean,
                      .weight = weight},
                     stream);
  // A rule runs once, so it may scale what it kept where that lies.
  auto rule = [gradients](const Tensor& dmean, Needs& /*needs*/) {
    std::vector<Tensor> out{gradients.dx, gradients.dw};
    for (Tensor& gradient : out) {
      if (gradient.defined())
        kernels::scale_by(dmean, gradient, dmean.stream());
    }
    return out;
  };
  return record("linear_cross_entropy", mean, {x, w}, std::move(rule));
}

}  // namespace hew::ag
