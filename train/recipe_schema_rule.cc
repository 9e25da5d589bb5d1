#include "train/recipe_schema.h"

namespace hew::train {
namespace {

using sparsity::Growth;
using sparsity::Regrow;
using sparsity::ScheduleKind;
using sparsity::Scope;
using sparsity::Score;
using sparsity::Sharpness;
using sparsity::SparsityRule;
using sparsity::SparsitySchedule;

using Rules = std::vector<Field<SparsityRule>>;

constexpr const char* kByMethod = "by method";

// What the method puts into a slot that the user left open.
template <class T>
std::function<void(SparsityRule&, const Written&)> preset(T SparsityRule::*slot) {
  return [slot](SparsityRule& rule, const Written&) {
    SparsityRule filled = rule;
    apply_method(filled);
    rule.*slot = filled.*slot;
  };
}

bool is_constant(const SparsityRule& rule) {
  return rule.schedule.kind == ScheduleKind::kConstant;
}

bool has_table(const SparsityRule& rule) {
  return rule.schedule.kind == ScheduleKind::kTable && !rule.schedule.table.empty();
}

bool is_sparsity(double s) {
  return s >= 0 && s < 1;
}

Limit<ScheduleTable> table_limit() {
  return {"with 0 ≤ sparsity < 1", [](const ScheduleTable& table) {
            for (const sparsity::SchedulePoint& point : table) {
              if (!is_sparsity(point.sparsity))
                return false;
            }
            return !table.empty();
          }};
}

void add_schedule_fields(Rules& fields) {
  Section schedule(
      fields, "schedule", [](auto& r) -> auto& { return r.schedule; });
  schedule.add("name", &SparsitySchedule::kind, "Course of the sparsity from `initial` to `final`.")
      .defaults_to(kByMethod, [](SparsityRule& rule, const Written&) {
        SparsityRule filled = rule;
        apply_method(filled);
        rule.schedule.kind = filled.schedule.kind;
      });
  schedule
      .add("table", &SparsitySchedule::table, table_limit(),
           "Staircase: from each step on that sparsity; steps ascend.")
      .required_if(
          "required",
          [](const SparsityRule& rule) { return rule.schedule.kind == ScheduleKind::kTable; })
      .only_with("schedule.name", "table", [](const SparsityRule& rule) {
        return rule.schedule.kind == ScheduleKind::kTable;
      });
  Field<SparsityRule>& final_sparsity =
      schedule.add("final", &SparsitySchedule::final, below_one(),
                   "Sparsity from `schedule.end` on: the share of dead blocks.");
  final_sparsity
      .defaults_to("",
                   [](SparsityRule& rule, const Written&) {
                     if (has_table(rule))
                       rule.schedule.final = rule.schedule.table.back().sparsity;
                   })
      .required_if("required; table: its last", [](const SparsityRule& rule) {
        return rule.schedule.kind != ScheduleKind::kTable;
      });
  schedule
      .add("initial", &SparsitySchedule::initial, below_one(), "Sparsity before `schedule.begin`.")
      .defaults_to("0; constant: `final`; table: its first",
                   [](SparsityRule& rule, const Written&) {
                     if (is_constant(rule))
                       rule.schedule.initial = rule.schedule.final;
                     if (has_table(rule))
                       rule.schedule.initial = rule.schedule.table.front().sparsity;
                   });
  schedule.add("begin", &SparsitySchedule::begin, "Step of the first refresh, i0.");
  schedule
      .add("end", &SparsitySchedule::end,
           "Step of the last refresh, i1, which reaches `final` exactly; nothing grows from here "
           "on. BLaST's decay d is -d.")
      .defaults_to("75%; spartan: 20%", [](SparsityRule& rule, const Written&) {
        SparsityRule filled = rule;
        apply_method(filled);
        rule.schedule.end = filled.schedule.end;
      });
}

void add_sharpness_fields(Rules& fields) {
  Section sharpness(
      fields, "sharpness", [](auto& r) -> auto& { return r.sharpness; });
  const auto soft = [](const SparsityRule& r) { return r.score == Score::kSoftMagnitude; };
  sharpness
      .add("initial", &Sharpness::initial, positive(),
           "β of the soft mask at step 0, over the standard deviation of the blocks' norms.")
      .only_with("score", "soft_magnitude", soft);
  sharpness.add("final", &Sharpness::final, positive(), "β from `sharpness.end` on.")
      .only_with("score", "soft_magnitude", soft);
  sharpness.add("end", &Sharpness::end, "Step up to which β moves from `initial` to `final`.")
      .only_with("score", "soft_magnitude", soft);
}

void add_selection_fields(Rules& fields) {
  Section rule(
      fields, "", [](auto& r) -> auto& { return r; });
  rule.add("score", &SparsityRule::score, "What live blocks are ranked by.")
      .defaults_to(kByMethod, preset(&SparsityRule::score));
  rule.add("ema_decay", &SparsityRule::ema_decay, below_one(), "Decay of the moving average.")
      .only_with("score", "ema", [](const SparsityRule& r) { return r.score == Score::kEma; });
  rule.add("freeze_scores_at", &SparsityRule::freeze_scores_at,
           "Step at which masks stop being selected, scores training, and dead blocks are dropped.")
      .defaults_to("never; spartan: 80%",
                   [](SparsityRule& r, const Written& written) {
                     if (selects_every_step(r))
                       preset (&SparsityRule::freeze_scores_at)(r, written);
                   })
      .only_with("score", "learned or soft_magnitude", sparsity::selects_every_step);
  add_sharpness_fields(fields);
  rule.add("growth", &SparsityRule::growth, "What dead blocks are ranked by.")
      .defaults_to("by method; none if `regrow` is given as none",
                   [](SparsityRule& r, const Written& written) {
                     preset (&SparsityRule::growth)(r, written);
                     if (written("regrow") && r.regrow == Regrow::kNone)
                       r.growth = Growth::kNone;
                   });
  rule.add("regrow", &SparsityRule::regrow,
           "How grown blocks join: on top of the k best (union), in place of the weakest (swap).")
      .defaults_to("by method; none if `growth` is given as none",
                   [](SparsityRule& r, const Written& written) {
                     preset (&SparsityRule::regrow)(r, written);
                     if (written("growth") && r.growth == Growth::kNone)
                       r.regrow = Regrow::kNone;
                   });
  rule.add("swap_fraction", &SparsityRule::swap_fraction, from_to(0, 1),
           "α₀: share of the k best that may be swapped at first; falls to 0 as half a cosine.")
      .only_with("regrow", "swap", [](const SparsityRule& r) { return r.regrow == Regrow::kSwap; });
}

void add_scope_fields(Rules& fields) {
  Section rule(
      fields, "", [](auto& r) -> auto& { return r; });
  rule.add("scope", &SparsityRule::scope,
           "What competes in one selection: the blocks of a matrix, of a group of them, of all.");
  rule.add("group", &SparsityRule::group,
           {"that is not empty", [](const std::string& s) { return !s.empty(); }},
           "Name of the group; rules may share it.")
      .required_if("required", [](const SparsityRule& r) { return r.scope == Scope::kGroup; })
      .only_with("scope", "group", [](const SparsityRule& r) { return r.scope == Scope::kGroup; });
  rule.add("weights", &SparsityRule::weights,
           "Store live blocks only, or a dense master beside the mask.")
      .defaults_to(kByMethod, preset(&SparsityRule::weights));
  rule.add(
      "lr_power", &SparsityRule::lr_power, from_to(0, 1),
      "A matrix with the share d of its blocks live learns at `optim.lr`·(1/d)^lr_power; 0: as "
      "a dense one, 1: so that its output moves as a dense one's.");
  rule.add("keep_dense_first", &SparsityRule::keep_dense_first, at_least<std::int64_t>(0),
           "First transformer blocks that the rule leaves dense.");
  rule.add("keep_dense_last", &SparsityRule::keep_dense_last, at_least<std::int64_t>(0),
           "Last transformer blocks that the rule leaves dense.");
}

}  // namespace

void add_rule_fields(Rules& fields) {
  Section rule(
      fields, "", [](auto& r) -> auto& { return r; });
  rule.add("match", &SparsityRule::match,
           {"",
            [](const StringList& list) {
              for (const std::string& glob : list) {
                if (glob.empty())
                  return false;
              }
              return !list.empty();
            }},
           "Globs over parameter names (`*` any characters, `?` one), such as "
           "`blocks.*.mlp.*.weight`.")
      .required();
  rule.add("method", &SparsityRule::method, "Choice for every slot that the rule leaves open.")
      .required();
  constexpr std::int64_t kLargestBlock = 128;
  rule.add("block", &SparsityRule::block,
           {"that is a multiple of 8, from 8 to 128",
            [](const std::int64_t& b) { return b >= 8 && b <= kLargestBlock && b % 8 == 0; }},
           "Side of a block.");
  add_schedule_fields(fields);
  rule.add("every", &SparsityRule::every, at_least<std::int64_t>(0),
           "Steps between refreshes of the mask; 0: only the one at `schedule.begin`.")
      .defaults_to(kByMethod, preset(&SparsityRule::every));
  add_selection_fields(fields);
  add_scope_fields(fields);
}

}  // namespace hew::train
