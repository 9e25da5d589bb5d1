#pragma once

#include <cstdint>

#include "core/tensor.h"
#include "kernels/activation.h"
#include "kernels/dispatch.h"

namespace hew {
class Beside;
}

namespace hew::kernels {

struct BsrSchedule;
class FoldedWeight;

/// Where the live blocks of an N × K matrix W are: BSR by block rows, with the transposed index
/// beside it. Live block p lies in block column col[p], ordered by (block row, block column); entry
/// q of the transposed index is block position[q], in block row row[q], ordered by (block column,
/// block row). N and K need not be multiples of the block: values pad the last blocks with zeros.
/// Owns nothing; the arrays lie on the device of the values. Hopper's kernels need the schedule;
/// without it the products are computed by slower ones.
struct BsrIndex {
  std::int64_t rows = 0;   // N
  std::int64_t cols = 0;   // K
  std::int64_t block = 0;  // b, a multiple of 8 up to 128
  std::int64_t nnzb = 0;
  const std::int32_t* crow = nullptr;      // [R + 1]
  const std::int32_t* col = nullptr;       // [nnzb]
  const std::int32_t* ccol = nullptr;      // [C + 1]
  const std::int32_t* row = nullptr;       // [nnzb]
  const std::int32_t* position = nullptr;  // [nnzb]
  const BsrSchedule* schedule = nullptr;   // made from this index (bsr_schedule.h), or null

  std::int64_t block_rows() const { return (rows + block - 1) / block; }
  std::int64_t block_cols() const { return (cols + block - 1) / block; }
};

/// y[M, N] ← act(x[M, K]·Wᵀ + bias[N]), or with a gate silu(gate) ⊙ (x·Wᵀ + bias), or with a
/// residual x·Wᵀ + bias + residual; one of the three at most.
struct BsrForwardArgs {
  ConstView x;
  ConstView values;  // [nnzb, b, b]
  BsrIndex index;
  ConstView bias = {};  // may be null
  Activation activation = Activation::kNone;
  ConstView gate = {};      // [M, N] or null
  ConstView residual = {};  // [M, N] or null
  View y;
  View pre = {};  // may be null; x·Wᵀ + bias [M, N] for the backward pass, where activated or gated
  FoldedWeight* folded = nullptr;  // of these values, or null
};

/// dx[M, K] ← (dy[M, N]·W) ⊙ act'(pre[M, K]), through the transposed index, and dbias[K] ←
/// Σ_m dx[m, :]: with an activation the gradient goes on through the layer that made x = act(pre).
/// dbias sums dx before or after it is rounded, in an order that shapes, index and device fix.
/// With a gate it goes on through x = silu(gate) ⊙ up: dx ← (dy·W) ⊙ silu(gate), the gradient of
/// up, and dgate ← (dy·W) ⊙ up ⊙ silu'(gate).
struct BsrInputGradientArgs {
  ConstView dy;
  ConstView values;  // [nnzb, b, b]
  BsrIndex index;
  View dx;
  Activation activation = Activation::kNone;
  ConstView pre = {};   // what the activation was given; null without one
  View dbias = {};      // may be null, and is without an activation
  ConstView gate = {};  // [M, K] or null, and is with an activation; so are up and dgate
  ConstView up = {};
  View dgate = {};
  FoldedWeight* folded = nullptr;  // of these values, or null
};

/// dvalues[p] ← dy[:, block row of p]ᵀ·x[:, block column of p] for each live block p; padding
/// exactly zero.
struct BsrWeightGradientArgs {
  ConstView dy;  // [M, N]
  ConstView x;   // [M, K]
  BsrIndex index;
  View dvalues;             // [nnzb, b, b]
  bool accumulate = false;  // add to what dvalues holds
  // Where live blocks may be copied out of a dense gradient while the stream goes on; then dvalues
  // is there once that has been joined. May be null.
  Beside* beside = nullptr;
};

/// All views of one dtype, but dvalues and dbias of its accumulator; no output overlaps an input.
/// Cost 2·M·nnzb·b² FLOPs. No sum depends on the number of threads. The contents of the index are
/// not checked. A product that goes through a dense one takes W from `folded`, and makes it there
/// if it is the first; without it, and on the CPU, nothing is kept. Throws ShapeError, DtypeError,
/// BackendError; Error for dbias without an activation and for what excludes each other.
void bsr_forward(const BsrForwardArgs& args, const Stream& stream);
void bsr_input_gradient(const BsrInputGradientArgs& args, const Stream& stream);
void bsr_weight_gradient(const BsrWeightGradientArgs& args, const Stream& stream);

/// Throws ShapeError unless the block is a multiple of 8 up to 128 and values have shape [nnzb, b,
/// b].
void require_bsr(std::string_view op, const BsrIndex& index, const ConstView& values);

template <class T>
void bsr_forward(Cpu, const BsrForwardArgs& args);
template <class T>
void bsr_forward(Cuda, const BsrForwardArgs& args);
template <class T>
void bsr_input_gradient(Cpu, const BsrInputGradientArgs& args);
template <class T>
void bsr_input_gradient(Cuda, const BsrInputGradientArgs& args);
template <class T>
void bsr_weight_gradient(Cpu, const BsrWeightGradientArgs& args);
template <class T>
void bsr_weight_gradient(Cuda, const BsrWeightGradientArgs& args);

}  // namespace hew::kernels
