#pragma once

#include <cstdint>
#include <optional>

#include "app/bench_bsr_weights.h"
#include "app/bench_random.h"
#include "app/bench_turns.h"
#include "core/tensor.h"
#include "kernels/bsr_routes.h"
#include "sparsity/pattern.h"

namespace hew {

using kernels::BsrProduct;

/// What a product has to compute and to move at least, the padding of ragged blocks left out. Each
/// operand counts once, but the columns of x (of dy, for the input gradient; of both, for the
/// weight gradient) that no live block needs; the weight gradient is in the accumulator's dtype.
struct BsrWork {
  double flops = 0;
  double bytes = 0;
};
BsrWork work_of(BsrProduct product, std::int64_t tokens, const sparsity::BsrPattern& pattern,
                DType dtype);

/// Random inputs of one layer, and room for the results of both sides.
struct BsrOperands {
  Tensor x, dy;
  Tensor y, dx;
  Tensor dense_y, dense_dx, dense_dw;

  BsrOperands(const BsrShape& shape, DType dtype, RandomTensors& random);
};

/// A block-sparse weight, the same as a dense one, and perhaps a uniform pattern of as many blocks.
struct BsrWeight {
  sparsity::BsrPattern pattern;
  std::optional<sparsity::BsrPattern> uniform;
  Tensor values;   // [nnzb, b, b]
  Tensor dvalues;  // [nnzb, b, b]
  Tensor dense;    // [N, K], zero where blocks are dead

  BsrWeight(BsrPatternKind kind, const sparsity::BlockGrid& grid, double sparsity,
            RandomTensors& random, const BsrOperands& operands);
};

struct BsrTimes {
  double sparse = 0;  // seconds
  double dense = 0;
  double uniform = 0;  // 0 where the weight has no uniform pattern
  double kept = 0;     // `sparse` without the fold of W; 0 where no dense product takes W's place
  double error = 0;  // ‖sparse − dense‖/‖dense‖ (Frobenius) of the results; NaN if any is
};

/// ‖sparse − dense‖/‖dense‖ of a right result: bfloat16 rounds either side by 2⁻⁹ at most, tf32
/// rounds less, and a missing or misplaced block is far above.
inline constexpr double kMaxBsrError = 1e-2;

/// ‖result − reference‖/‖reference‖ (Frobenius), NaN if anything is; overwrites the reference.
double relative_error(const Tensor& result, Tensor reference);

/// The sparse product against the dense one with the same weight, turn by turn; where a dense
/// product on the folded weight takes its place, W is folded in each round, and in turns with that
/// is there already. Results that are compared were NaN before.
BsrTimes time_product(BsrProduct product, const BsrOperands& operands, const BsrWeight& weight,
                      const BenchTurns& turns);

/// Forward, weight gradient and input gradient one after the other, as training has them: W is
/// folded at most once, and copies out of a dense gradient go on beside what follows.
struct BsrLayerTimes {
  double sparse = 0;  // seconds
  double dense = 0;
  double error = 0;  // the greatest of the three results'; NaN if any is
};
BsrLayerTimes time_layer(const BsrOperands& operands, const BsrWeight& weight,
                         const BenchTurns& turns);

struct BsrRouteResults {
  kernels::BsrRouteTimes times;
  double error = 0;  // the greater of both ways, each against the dense product; NaN if any is
};

/// A GPU's own kernels against the dense product on the folded weight, turn by turn. Forward and
/// input gradient count half a fold, which they share: the mean of the times with W folded anew and
/// with W there already.
BsrRouteResults time_routes(BsrProduct product, const BsrOperands& operands,
                            const BsrWeight& weight, const BenchTurns& turns);

}  // namespace hew
