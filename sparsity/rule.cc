#include "sparsity/rule.h"

#include "core/glob.h"

namespace hew::sparsity {
namespace {

struct Preset {
  Method method;
  Score score;
  Growth growth;
  Regrow regrow;
  ScheduleKind schedule;
  Weights weights;
  std::int64_t every;
};

constexpr std::array<Preset, 7> kPresets{{
    {Method::kBlast, Score::kMagnitude, Growth::kGradient, Regrow::kUnion, ScheduleKind::kCubic,
     Weights::kLive, 100},
    // What training moves selects anew in every forward.
    {Method::kSupermask, Score::kLearned, Growth::kNone, Regrow::kNone, ScheduleKind::kConstant,
     Weights::kDense, 1},
    {Method::kSpartan, Score::kSoftMagnitude, Growth::kNone, Regrow::kNone, ScheduleKind::kLinear,
     Weights::kDense, 1},
    {Method::kMagnitude, Score::kMagnitude, Growth::kNone, Regrow::kNone, ScheduleKind::kCubic,
     Weights::kLive, 100},
    {Method::kRigl, Score::kMagnitude, Growth::kGradient, Regrow::kSwap, ScheduleKind::kConstant,
     Weights::kLive, 100},
    {Method::kSet, Score::kMagnitude, Growth::kRandom, Regrow::kSwap, ScheduleKind::kConstant,
     Weights::kLive, 100},
    {Method::kStatic, Score::kRandom, Growth::kNone, Regrow::kNone, ScheduleKind::kConstant,
     Weights::kLive, 0},
}};

// The published phases of Spartan's ViT-B/16: warm-up in the first fifth, fixed masks in the last.
constexpr double kSpartanWarmUp = 20;
constexpr double kSpartanFreeze = 80;

}  // namespace

bool selects_every_step(const SparsityRule& rule) {
  return rule.score == Score::kLearned || rule.score == Score::kSoftMagnitude;
}

void apply_method(SparsityRule& rule) {
  const Preset& preset = kPresets[static_cast<std::size_t>(rule.method)];
  rule.score = preset.score;
  rule.growth = preset.growth;
  rule.regrow = preset.regrow;
  rule.schedule.kind = preset.schedule;
  rule.weights = preset.weights;
  rule.every = preset.every;
  if (rule.method == Method::kSpartan) {
    rule.schedule.end = StepMark::percent(kSpartanWarmUp);
    rule.freeze_scores_at = StepMark::percent(kSpartanFreeze);
  }
}

std::optional<std::size_t> find_rule(const std::vector<SparsityRule>& rules,
                                     std::string_view name) {
  for (std::size_t i = 0; i < rules.size(); ++i) {
    if (glob_match_any(rules[i].match, name))
      return i;
  }
  return std::nullopt;
}

}  // namespace hew::sparsity
