#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/named_enum.h"
#include "core/step_mark.h"

namespace hew::sparsity {

/// A named choice in every slot; a rule may then override single slots.
enum class Method : std::uint8_t { kBlast, kSupermask, kSpartan, kMagnitude, kRigl, kSet, kStatic };
/// What a live block is ranked by: ‖W[r,c]‖_F, a trained score, ‖G[r,c]‖_F, a moving average of
/// ‖W[r,c]‖·‖G[r,c]‖, chance; or ‖W[r,c]‖_F of dead blocks too, through a soft mask
/// (sparsity/soft_mask.h).
enum class Score : std::uint8_t { kMagnitude, kLearned, kGradient, kEma, kRandom, kSoftMagnitude };
/// What a dead block is ranked by.
enum class Growth : std::uint8_t { kNone, kGradient, kRandom };
/// How grown blocks join the k best live ones: not at all; by giving way, k stays; on top of them.
enum class Regrow : std::uint8_t { kNone, kSwap, kUnion };
enum class ScheduleKind : std::uint8_t { kConstant, kCubic, kLinear, kCosine, kTable };
/// What competes in one top-k: the blocks of a matrix, of a named group of them, of all.
enum class Scope : std::uint8_t { kMatrix, kGroup, kGlobal };
/// Whether only live blocks are stored, or a dense master beside the mask.
enum class Weights : std::uint8_t { kLive, kDense };

/// From step `at` on, sparsity `sparsity`.
struct SchedulePoint {
  StepMark at;
  double sparsity = 0;
  friend bool operator==(const SchedulePoint&, const SchedulePoint&) = default;
};

/// s(i): `initial` before step i0 = begin, `final` from i1 = end on, by `kind` in between
/// (methods.md §1). A table is a staircase: the sparsity of the last point at or before i.
/// For constant, initial = final; for table they are those of its first and last points.
struct SparsitySchedule {
  ScheduleKind kind = ScheduleKind::kCubic;
  double initial = 0;
  double final = 0;
  StepMark begin = StepMark::at(0);
  StepMark end = StepMark::percent(75);
  std::vector<SchedulePoint> table;
  friend bool operator==(const SparsitySchedule&, const SparsitySchedule&) = default;
};

/// Sharpness β of a soft mask: a straight line from `initial` at step 0 to `final` at `end`, which
/// it keeps.
struct Sharpness {
  double initial = 1;
  double final = 20;
  StepMark end = StepMark::percent(80);
  friend bool operator==(const Sharpness&, const Sharpness&) = default;
};

/// Where in a recipe something was written, such as `recipe.yaml:31: sparsity.0.match`, for
/// messages: no part of what it says, so that all are equal.
struct Origin {
  std::string text;
  friend bool operator==(const Origin& /*a*/, const Origin& /*b*/) { return true; }
};

/// One entry of a recipe's `sparsity` list, every slot filled, every step resolved.
struct SparsityRule {
  std::vector<std::string> match;  // globs over parameter names; the first rule that fits wins
  Method method = Method::kBlast;
  std::int64_t block = 32;
  SparsitySchedule schedule;
  std::int64_t every = 100;  // steps between refreshes; 0: a static mask, never refreshed
  Score score = Score::kMagnitude;
  Growth growth = Growth::kGradient;
  Regrow regrow = Regrow::kUnion;
  double swap_fraction = 0.3;  // α_0 of regrow: swap
  double ema_decay = 0.9;      // of score: ema
  Scope scope = Scope::kMatrix;
  std::string group;  // of scope: group
  Weights weights = Weights::kLive;
  double lr_power = 0;                       // a matrix of density d learns at lr·d^−lr_power
  std::optional<StepMark> freeze_scores_at;  // of score: learned and soft_magnitude
  Sharpness sharpness;                       // of score: soft_magnitude
  std::int64_t keep_dense_first = 0;         // transformer blocks at either end left dense
  std::int64_t keep_dense_last = 0;
  Origin match_origin;  // of `match`; empty if unknown
  friend bool operator==(const SparsityRule&, const SparsityRule&) = default;
};

/// Whether masks are selected anew in every forward, among all blocks of a dense master, by what
/// training moves: until the scores freeze, if they do.
bool selects_every_step(const SparsityRule& rule);

/// The rule's slots as its method fills them: score, growth, regrow, schedule kind, every, weights;
/// of spartan also the schedule's end and freeze_scores_at. Other members keep their values.
void apply_method(SparsityRule& rule);

/// Index of the first rule with a pattern that fits the parameter name, or nothing.
std::optional<std::size_t> find_rule(const std::vector<SparsityRule>& rules, std::string_view name);

}  // namespace hew::sparsity

namespace hew {

template <>
struct EnumNames<sparsity::Method> {
  using E = sparsity::Method;
  static constexpr auto kTable =
      std::to_array<std::pair<E, std::string_view>>({{E::kBlast, "blast"},
                                                     {E::kSupermask, "supermask"},
                                                     {E::kSpartan, "spartan"},
                                                     {E::kMagnitude, "magnitude"},
                                                     {E::kRigl, "rigl"},
                                                     {E::kSet, "set"},
                                                     {E::kStatic, "static"}});
};
template <>
struct EnumNames<sparsity::Score> {
  using E = sparsity::Score;
  static constexpr auto kTable =
      std::to_array<std::pair<E, std::string_view>>({{E::kMagnitude, "magnitude"},
                                                     {E::kLearned, "learned"},
                                                     {E::kGradient, "gradient"},
                                                     {E::kEma, "ema"},
                                                     {E::kRandom, "random"},
                                                     {E::kSoftMagnitude, "soft_magnitude"}});
};
template <>
struct EnumNames<sparsity::Growth> {
  using E = sparsity::Growth;
  static constexpr auto kTable = std::to_array<std::pair<E, std::string_view>>(
      {{E::kNone, "none"}, {E::kGradient, "gradient"}, {E::kRandom, "random"}});
};
template <>
struct EnumNames<sparsity::Regrow> {
  using E = sparsity::Regrow;
  static constexpr auto kTable = std::to_array<std::pair<E, std::string_view>>(
      {{E::kNone, "none"}, {E::kSwap, "swap"}, {E::kUnion, "union"}});
};
template <>
struct EnumNames<sparsity::ScheduleKind> {
  using E = sparsity::ScheduleKind;
  static constexpr auto kTable =
      std::to_array<std::pair<E, std::string_view>>({{E::kConstant, "constant"},
                                                     {E::kCubic, "cubic"},
                                                     {E::kLinear, "linear"},
                                                     {E::kCosine, "cosine"},
                                                     {E::kTable, "table"}});
};
template <>
struct EnumNames<sparsity::Scope> {
  using E = sparsity::Scope;
  static constexpr auto kTable = std::to_array<std::pair<E, std::string_view>>(
      {{E::kMatrix, "matrix"}, {E::kGroup, "group"}, {E::kGlobal, "global"}});
};
template <>
struct EnumNames<sparsity::Weights> {
  using E = sparsity::Weights;
  static constexpr auto kTable =
      std::to_array<std::pair<E, std::string_view>>({{E::kLive, "live"}, {E::kDense, "dense"}});
};

}  // namespace hew
