#include "kernels/folded_weight.h"

#include "kernels/blocks.h"

namespace hew::kernels {

Tensor FoldedWeight::of(const ConstView& values, const BsrIndex& index, const Stream& stream) {
  const bool same = w_.defined() && values_ == values.data && col_ == index.col &&
                    nnzb_ == index.nnzb && w_.shape() == Shape{index.rows, index.cols} &&
                    w_.dtype() == values.dtype && w_.device() == values.device;
  if (same)
    return w_;
  w_ = Tensor();  // its memory may serve the new one
  Tensor made = Tensor::empty({index.rows, index.cols}, values.dtype, stream);
  scatter_blocks(values, index, made, stream);
  w_ = made;
  values_ = values.data;
  col_ = index.col;
  nnzb_ = index.nnzb;
  return w_;
}

}  // namespace hew::kernels
