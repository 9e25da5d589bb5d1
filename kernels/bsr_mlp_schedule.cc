#include "kernels/bsr_mlp_schedule.h"

#include <cstring>

#include "core/cuda_device.h"

namespace hew::kernels {

BsrMlpSchedule::BsrMlpSchedule(const BsrIndex& up, const BsrIndex& down, const Stream& stream)
    : program_(hopper::mlp_program(up, down)) {
  std::vector<std::int32_t> words(program_.steps.size() * sizeof(hopper::MlpStep) /
                                  sizeof(std::int32_t));
  std::memcpy(words.data(), program_.steps.data(), words.size() * sizeof(std::int32_t));
  words_ = Tensor::from(words, {std::ssize(words)}, stream);
  program_.steps = {};
}

const hopper::MlpStep* BsrMlpSchedule::steps() const {
  return reinterpret_cast<const hopper::MlpStep*>(words_.data<std::int32_t>());
}

std::shared_ptr<const BsrMlpSchedule> mlp_schedule_for(const BsrIndex& up, const BsrIndex& down,
                                                       const Stream& stream) {
  constexpr int kHopper = 90;
  if (stream.device.is_cpu() || cuda::compute_capability(stream) != kHopper ||
      !hopper::has_mlp_program(up, down))
    return nullptr;
  return std::make_shared<const BsrMlpSchedule>(up, down, stream);
}

}  // namespace hew::kernels
