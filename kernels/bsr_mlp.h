#pragma once

#include "kernels/bsr.h"

namespace hew::kernels {

class BsrMlpSchedule;

/// y[M, C'] ← act(x[M, C]·upᵀ + up_bias[F])·downᵀ + down_bias[C'] with block-sparse up [F, C] and
/// down [C', F], for who needs nothing of the hidden matrix [M, F] but y. That is rounded to x's
/// dtype between the products, which in the dtypes of a GPU may or may not go through device
/// memory. An infinity or NaN in x may reach more of y than the live blocks of its columns do.
struct BsrMlpArgs {
  ConstView x;
  ConstView up_values;  // [nnzb, b, b]
  BsrIndex up;
  ConstView up_bias = {};  // may be null
  Activation activation = Activation::kNone;
  ConstView down_values;  // [nnzb, b', b']
  BsrIndex down;
  ConstView down_bias = {};                  // may be null
  const BsrMlpSchedule* schedule = nullptr;  // made from these two indices; null: two products
  FoldedWeight* up_folded = nullptr;         // as in BsrForwardArgs
  FoldedWeight* down_folded = nullptr;
  View y;
};

/// All views of one dtype; y overlaps no input. Cost as bsr_forward's, twice. The contents of the
/// indices are not checked. Throws ShapeError, DtypeError, BackendError.
void bsr_mlp_forward(const BsrMlpArgs& args, const Stream& stream);

template <class T>
void bsr_mlp_forward(Cpu, const BsrMlpArgs& args);
template <class T>
void bsr_mlp_forward(Cuda, const BsrMlpArgs& args);

/// The two products one after the other, on any device.
template <class T, class Backend>
void bsr_mlp_products(Backend backend, const BsrMlpArgs& args) {
  Tensor hidden = Tensor::empty({args.x.shape[0], args.up.rows}, args.x.dtype, backend.stream);
  bsr_forward<T>(backend, {.x = args.x,
                           .values = args.up_values,
                           .index = args.up,
                           .bias = args.up_bias,
                           .activation = args.activation,
                           .y = hidden,
                           .folded = args.up_folded});
  bsr_forward<T>(backend, {.x = hidden,
                           .values = args.down_values,
                           .index = args.down,
                           .bias = args.down_bias,
                           .y = args.y,
                           .folded = args.down_folded});
}

}  // namespace hew::kernels
