#pragma once

#include "kernels/activation.h"
#include "kernels/bsr_route.h"

namespace hew::kernels {

/// The ways in which a Hopper makes act(x·upᵀ + bias)·downᵀ + bias.
///   kProducts  two products, each on its own cheapest route, the hidden matrix in device memory
///   kFused     one kernel, hidden strips in shared memory
enum class BsrMlpRoute : std::uint8_t { kProducts, kFused };

/// What that costs depends on this alone.
struct BsrMlpProblem {
  BsrProblem up;
  BsrProblem down;
  Activation activation = Activation::kNone;
  // Of the fused kernel's program:
  std::int64_t tile_tokens = 0;
  std::int64_t hidden_strips = 0;  // that are made
  std::int64_t boxes = 0;          // 64 × min(b, 64), loaded for a tile
};

/// Seconds on an H100; only their ratio counts. The fused kernel moves neither hidden strips nor
/// sums through device memory, but loads all live blocks again for each few tokens.
double estimated_seconds(BsrMlpRoute route, const BsrMlpProblem& problem);

/// Of a problem that the fused kernel takes. Depends on its argument alone: measured routes
/// (bsr_routes.h) count for the two products where those are made, not for this choice.
BsrMlpRoute cheapest_route(const BsrMlpProblem& problem);

}  // namespace hew::kernels
