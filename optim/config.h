#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <utility>

#include "core/named_enum.h"
#include "core/step_mark.h"

namespace hew::optim {

enum class OptimizerKind : std::uint8_t { kAdamW, kSgd };
/// What AdamW stores its moments in; kFloat32 stands for the dtype of the weights, float64 where
/// they are.
enum class MomentFormat : std::uint8_t { kFloat32, kBFloat16 };
enum class LrScheduleKind : std::uint8_t { kConstant, kLinear, kCosine, kWsd };

/// Factor on the learning rate: 1/warmup, 2/warmup, … 1, then 1 (constant), or from 1 to
/// `final` at the last step, along a line or half a cosine; wsd stays at 1 and falls along a line
/// over the last `decay` steps.
struct LrScheduleConfig {
  LrScheduleKind kind = LrScheduleKind::kCosine;
  StepMark warmup = StepMark::at(0);
  double final = 0.1;
  StepMark decay = StepMark::percent(20);
  friend bool operator==(const LrScheduleConfig&, const LrScheduleConfig&) = default;
};

struct OptimConfig {
  OptimizerKind kind = OptimizerKind::kAdamW;
  double lr = 0;
  std::array<double, 2> betas{0.9, 0.95};
  double eps = 1e-8;
  MomentFormat moments = MomentFormat::kFloat32;
  double momentum = 0.9;
  double weight_decay = 0.1;
  double clip_norm = 1;  // 0: no clipping
  bool shard = false;    // moments over ranks
  LrScheduleConfig schedule;
  friend bool operator==(const OptimConfig&, const OptimConfig&) = default;
};

}  // namespace hew::optim

namespace hew {

template <>
struct EnumNames<optim::OptimizerKind> {
  using E = optim::OptimizerKind;
  static constexpr auto kTable =
      std::to_array<std::pair<E, std::string_view>>({{E::kAdamW, "adamw"}, {E::kSgd, "sgd"}});
};
template <>
struct EnumNames<optim::MomentFormat> {
  using E = optim::MomentFormat;
  static constexpr auto kTable = std::to_array<std::pair<E, std::string_view>>(
      {{E::kFloat32, "float32"}, {E::kBFloat16, "bfloat16"}});
};
template <>
struct EnumNames<optim::LrScheduleKind> {
  using E = optim::LrScheduleKind;
  static constexpr auto kTable =
      std::to_array<std::pair<E, std::string_view>>({{E::kConstant, "constant"},
                                                     {E::kLinear, "linear"},
                                                     {E::kCosine, "cosine"},
                                                     {E::kWsd, "wsd"}});
};

}  // namespace hew
