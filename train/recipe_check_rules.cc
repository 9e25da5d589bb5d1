#include <algorithm>

#include "core/error.h"
#include "core/glob.h"
#include "train/recipe_check.h"

namespace hew::train {
namespace {

using sparsity::Growth;
using sparsity::Regrow;
using sparsity::ScheduleKind;
using sparsity::SchedulePoint;
using sparsity::Scope;
using sparsity::Score;
using sparsity::SparsityRule;
using sparsity::SparsitySchedule;
using sparsity::Weights;

// A checker for the keys of one rule, given without their prefix.
struct RuleChecker {
  const Checker& checker;
  std::string prefix;  // "sparsity.0."

  template <class Holds, class Explain>
  void check(const std::string& key, const std::string& other, const Holds& holds,
             const Explain& explain) const {
    checker.check({prefix + key, prefix + other, prefix + "method"}, holds, explain);
  }
};

void check_slots(const SparsityRule& rule, const RuleChecker& rules) {
  const bool anew = selects_every_step(rule);
  const bool soft = rule.score == Score::kSoftMagnitude;
  const char* what = soft ? "a soft mask" : "a learned score";
  rules.check(
      "weights", "score", [&] { return !anew || rule.weights == Weights::kDense; },
      [&] { return fmt::format("got live, expected dense: {} needs the dense gradient", what); });
  rules.check(
      "growth", "score", [&] { return !anew || rule.growth == Growth::kNone; },
      [&] {
        return fmt::format("got {}, expected none: {} ranks dead blocks too", name_of(rule.growth),
                           what);
      });
  rules.check(
      "every", "score", [&] { return !anew || rule.every == 1; },
      [&] {
        return fmt::format("got {}, expected 1: {} selects in every forward", rule.every, what);
      });
  rules.check(
      "scope", "score", [&] { return !soft || rule.scope == Scope::kMatrix; },
      [&] {
        return fmt::format("got {}, expected matrix: a soft mask is one matrix's",
                           name_of(rule.scope));
      });
  rules.check(
      "regrow", "growth",
      [&] { return rule.regrow == Regrow::kNone || rule.growth != Growth::kNone; },
      [&] { return fmt::format("got {}, expected none as growth is none", name_of(rule.regrow)); });
  rules.check(
      "growth", "regrow",
      [&] { return anew || rule.growth == Growth::kNone || rule.regrow != Regrow::kNone; },
      [&] { return fmt::format("got {}, expected none as regrow is none", name_of(rule.growth)); });
}

void check_course(const SparsityRule& rule, const RuleChecker& rules) {
  const SparsitySchedule& schedule = rule.schedule;
  const bool constant = schedule.kind == ScheduleKind::kConstant;
  rules.check(
      "every", "schedule.name", [&] { return rule.every > 0 || constant; },
      [&] {
        return fmt::format("got 0, expected at least 1 with schedule.name: {}",
                           name_of(schedule.kind));
      });
  rules.check(
      "schedule.initial", "schedule.final",
      [&] { return !constant || schedule.initial == schedule.final; },
      [&] {
        return fmt::format("got {}, expected schedule.final = {} as it is constant",
                           schedule.initial, schedule.final);
      });
  if (schedule.kind != ScheduleKind::kTable || schedule.table.empty())
    return;
  rules.check(
      "schedule.initial", "schedule.table",
      [&] { return schedule.initial == schedule.table.front().sparsity; },
      [&] {
        return fmt::format("got {}, expected {}, the first in schedule.table", schedule.initial,
                           schedule.table.front().sparsity);
      });
  rules.check(
      "schedule.final", "schedule.table",
      [&] { return schedule.final == schedule.table.back().sparsity; },
      [&] {
        return fmt::format("got {}, expected {}, the last in schedule.table", schedule.final,
                           schedule.table.back().sparsity);
      });
}

// What depends on the number of steps.
void check_steps(const SparsityRule& rule, std::int64_t steps, const RuleChecker& rules) {
  const SparsitySchedule& schedule = rule.schedule;
  // Without a course or growth there is one selection, and i1 means nothing.
  const bool has_end = schedule.kind != ScheduleKind::kConstant || rule.regrow != Regrow::kNone;
  const auto in_run = [&](const StepMark& mark) { return mark.step >= 0 && mark.step < steps; };
  const auto explain = [&](const StepMark& mark) {
    return fmt::format("got {} (step {}), expected a step from 0 to {}, before train.steps",
                       to_string(mark), mark.step, steps - 1);
  };
  rules.check(
      "schedule.begin", "method", [&] { return in_run(schedule.begin); },
      [&] { return explain(schedule.begin); });
  rules.check(
      "schedule.end", "schedule.name", [&] { return !has_end || in_run(schedule.end); },
      [&] { return explain(schedule.end); });
  rules.check(
      "schedule.end", "schedule.begin",
      [&] { return !has_end || schedule.end.step > schedule.begin.step; },
      [&] {
        return fmt::format("got {} (step {}), expected a step after schedule.begin = {}",
                           to_string(schedule.end), schedule.end.step, schedule.begin.step);
      });
  const auto& freeze = rule.freeze_scores_at;
  rules.check(
      "freeze_scores_at", "score", [&] { return !freeze || in_run(*freeze); },
      [&] { return explain(*freeze); });
  rules.check(
      "sharpness.end", "score",
      [&] { return rule.score != Score::kSoftMagnitude || in_run(rule.sharpness.end); },
      [&] { return explain(rule.sharpness.end); });
  if (schedule.kind != ScheduleKind::kTable || schedule.table.empty())
    return;
  const auto& table = schedule.table;
  const bool ascending = std::adjacent_find(table.begin(), table.end(),
                                            [](const SchedulePoint& a, const SchedulePoint& b) {
                                              return a.at.step >= b.at.step;
                                            }) == table.end();
  rules.check(
      "schedule.table", "method", [&] { return ascending; },
      [] { return "the steps do not ascend"; });
  rules.check(
      "schedule.table", "schedule.end",
      [&] { return table.front().at.step >= 0 && table.back().at.step <= schedule.end.step; },
      [&] {
        return fmt::format(
            "reaches from step {} to {}, expected steps from 0 to "
            "schedule.end = {}",
            table.front().at.step, table.back().at.step, schedule.end.step);
      });
}

void check_match(const SparsityRule& rule, const layers::ModelConfig& model,
                 const RuleChecker& rules) {
  const char* tied = glob_match_any(rule.match, "head.weight") ? "head.weight"
                     : glob_match_any(rule.match, "token_embedding.weight")
                         ? "token_embedding.weight"
                         : nullptr;
  rules.checker.check(
      {rules.prefix + "match", "model.tied_embeddings", "model.family"},
      [&] { return tied == nullptr || !model.tied_embeddings; },
      [&] {
        return fmt::format(
            "matches {}, expected not to as model.tied_embeddings "
            "is true",
            tied);
      });
  const std::int64_t kept = rule.keep_dense_first + rule.keep_dense_last;
  rules.checker.check(
      {rules.prefix + "keep_dense_first", rules.prefix + "keep_dense_last", "model.layers"},
      [&] { return kept <= model.layers; },
      [&] {
        return fmt::format(
            "with keep_dense_last {} blocks stay dense, expected at "
            "most model.layers = {}",
            kept, model.layers);
      });
}

bool compete(const SparsityRule& a, const SparsityRule& b) {
  return a.scope == b.scope && a.scope != Scope::kMatrix && a.group == b.group;
}

// Blocks can only compete if they are alike and selected at the same time.
bool are_alike(const SparsityRule& a, const SparsityRule& b) {
  return a.block == b.block && a.schedule == b.schedule && a.every == b.every &&
         a.score == b.score && a.growth == b.growth && a.regrow == b.regrow &&
         a.weights == b.weights;
}

void check_scopes(const std::vector<SparsityRule>& rules, const Checker& checker) {
  for (std::size_t i = 1; i < rules.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) {
      checker.check(
          {fmt::format("sparsity.{}.scope", i), fmt::format("sparsity.{}.scope", j)},
          [&] { return !compete(rules[i], rules[j]) || are_alike(rules[i], rules[j]); },
          [&] {
            return fmt::format(
                "competes with sparsity.{}, expected the same block, "
                "schedule, every, score, growth, regrow and weights",
                j);
          });
    }
  }
}

}  // namespace

void check_rules(const Recipe& recipe, const Checker& checker) {
  for (std::size_t i = 0; i < recipe.sparsity.size(); ++i) {
    const SparsityRule& rule = recipe.sparsity[i];
    const RuleChecker rules{checker, fmt::format("{}.{}.", kRuleList, i)};
    check_slots(rule, rules);
    check_course(rule, rules);
    if (!checker.is_wrong("train.steps"))
      check_steps(rule, recipe.train.steps, rules);
    check_match(rule, recipe.model, rules);
  }
  check_scopes(recipe.sparsity, checker);
}

}  // namespace hew::train
