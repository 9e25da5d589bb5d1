#pragma once

#include <cstdint>
#include <span>

#include "core/tensor.h"
#include "kernels/dispatch.h"

namespace hew::kernels {

/// One matrix's soft top-k: of n values v, k are wanted.
struct SoftTop {
  ConstView values;       // float64 [n]: v, finite
  std::int64_t keep = 0;  // k, from 1 to n
  double sharpness = 1;   // β > 0, in units of the values' standard deviation
  View mask;              // float64 [n]: m
  View slope;             // float64 [1]: β/σ
};

/// The entropy-regularised transport of Spartan (Tai, Tian and Lim, NeurIPS 2022) where all costs
/// are equal. Among all 0 ≤ m ≤ 1 with Σ m = k, the m of largest
///   slope·Σ v_j·m_j − Σ (m_j·ln m_j + (1 − m_j)·ln(1 − m_j)),   slope = β/σ
/// which is m_j = 1/(1 + exp(−slope·v_j − μ)), with μ such that Σ m = k. The paper's algorithm 1
/// finds μ by Sinkhorn's alternation; it has this one fixed point, found here as the root of an
/// increasing function: by Newton's method, held inside a bracket that halves where Newton leaves
/// it, in at most kSoftTopRounds rounds. Measuring β in the values' standard deviation σ (of all n,
/// Σ (v − v̄)²/n) is hew's choice: then the scale of weights and the size of blocks, over which
/// norms average, do not matter. slope is 0 where all values are equal; m = 1 where k = n.
/// All matrices at once, no two of which may share outputs; the host waits for nothing. Throws
/// ShapeError, DtypeError; on the CPU also Error where a value is not finite, while a GPU gives
/// NaN.
void soft_top(std::span<const SoftTop> matrices, const Stream& stream);

/// How many rounds the search for μ may take; it ends as soon as μ stands still, after about ten.
inline constexpr int kSoftTopRounds = 100;

/// What soft_top() made of the norms of the R × C blocks of W [rows, cols], and ∂L/∂m.
struct SoftTopGradient {
  ConstView values;  // float64 [R, C]: v = ‖block‖_F/√e, e its real elements
  ConstView mask;    // float64 [R, C]: m
  ConstView slope;   // float64 [1]
  ConstView dmask;   // float64 [R, C]: D = ∂L/∂m
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t block = 0;
  View factor;  // float64 [R, C]
};

/// What a soft mask adds to ∂L/∂W: factor_j·W_j over block j. By the paper's algorithm 2 (equal
/// costs; slope taken for a constant), with s_j = m_j·(1 − m_j):
///   ∂L/∂v_j = slope·s_j·(D_j − Σ s·D/Σ s)
/// and by ∂v_j/∂W_j = W_j/(e_j·v_j):
///   factor_j = ∂L/∂v_j/(e_j·v_j), 0 where v_j = 0 and where Σ s = 0.
/// Throws ShapeError, DtypeError.
void soft_top_gradient(const SoftTopGradient& args, const Stream& stream);

void soft_top(Cpu, std::span<const SoftTop> matrices);
void soft_top(Cuda, std::span<const SoftTop> matrices);
void soft_top_gradient(Cpu, const SoftTopGradient& args);
void soft_top_gradient(Cuda, const SoftTopGradient& args);

}  // namespace hew::kernels
