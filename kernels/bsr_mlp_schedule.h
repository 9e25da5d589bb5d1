#pragma once

#include <memory>

#include "core/tensor.h"
#include "kernels/bsr.h"
#include "kernels/hopper/mlp_program.h"

namespace hew::kernels {

/// How the fused MLP goes through the live blocks of its two matrices.
class BsrMlpSchedule {
 public:
  /// From indices whose crow and col lie on the host, which alone are read; copies what it makes of
  /// them to the stream's device. Throws ShapeError where hopper::has_mlp_program() says no.
  BsrMlpSchedule(const BsrIndex& up, const BsrIndex& down, const Stream& stream);

  /// Without its steps.
  const hopper::MlpProgram& program() const { return program_; }
  /// Where the kernel reads them.
  const hopper::MlpStep* steps() const;

 private:
  hopper::MlpProgram program_;
  Tensor words_;
};

/// The schedule of two indices as above where the stream is of a GPU and there is a kernel for
/// them, else null.
std::shared_ptr<const BsrMlpSchedule> mlp_schedule_for(const BsrIndex& up, const BsrIndex& down,
                                                       const Stream& stream);

}  // namespace hew::kernels
