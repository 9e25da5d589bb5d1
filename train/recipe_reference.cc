#include "core/error.h"
#include "train/recipe.h"
#include "train/recipe_schema.h"

namespace hew::train {
namespace {

using sparsity::SparsityRule;

constexpr std::string_view kIntroduction = R"(# Recipe reference

<!-- Generated from the schema in train/: HEW_UPDATE_DOCS=1 build/tests/train_recipe_test -->

A recipe is one YAML file that says everything a training run depends on. Unknown, repeated or
misspelt keys, wrong types, values out of range and contradictions are reported together, each with
its place, before anything is allocated. `hew train recipe.yaml key=value …` overrides keys: dotted,
list items by number (`sparsity.0.block=16`), a section or the whole list in YAML's one-line form
(`sparsity=[]`).

**Steps** count from 0 to `train.steps` − 1. Where the table says *step or percentage*, `2000` is a
step (or a number of steps), `-500` is 500 steps before the end, and `25%` is that part of
`train.steps`, rounded down.

**Resume.** A run keeps its effective recipe, with every default filled in and steps as they were
written. A resume may change `train.steps`, `train.recompute`, `optim.shard`, `checkpoint.*`,
`run.*` but `run.seed`, and `train.precision` between fp32, tf32 and bf16; any other difference is an error. Percentages and steps counted from the end follow the new `train.steps`, and so do the
schedules; plain step numbers stay. A run may be shortened, but not below the steps it has done, nor
so that the last refresh of a rule moves from what is to come into what is done.
)";

constexpr std::string_view kRuleIntroduction = R"(
`sparsity` is a list of rules; leave it out, or empty, for a dense model. A rule chooses the weight
matrices of linear layers by name; the first rule that fits a matrix counts. Parameter names:

- `token_embedding.weight`, `position_embedding.weight` (gpt2), `final_norm.weight`,
  `head.weight` (absent with tied embeddings)
- in vit `patch_embedding.weight`, `class_token` (absent with pooling by mean),
  `position_embedding.weight`, `final_norm.weight`, `head.weight`
- `blocks.N.attn.{q,k,v,out}.weight`, `blocks.N.norm1.weight`, `blocks.N.norm2.weight`
- `blocks.N.mlp.{up,down}.weight`, in llama also `blocks.N.mlp.gate.weight`; the same with `.bias`

A method is a choice in every slot (docs/methods.md); what a rule says itself comes first:

| method | score | growth | regrow | schedule.name | every | weights |
|---|---|---|---|---|---|---|
)";

// Types read as "integer ≥ 1" in a table, "an integer ≥ 1" in an error.
std::string without_article(std::string text) {
  for (const std::string_view article : {"a ", "an "}) {
    if (text.starts_with(article))
      return text.substr(article.size());
  }
  return text;
}

template <class S>
std::string table(const std::vector<Field<S>>& fields, std::string_view section) {
  std::string out = "\n| key | value | default | meaning |\n|---|---|---|---|\n";
  for (const Field<S>& field : fields) {
    if (field.key.substr(0, field.key.find('.')) != section && !section.empty())
      continue;
    std::string meaning = field.meaning;
    if (field.applies) {
      meaning += fmt::format(" Only with `{}`: {}.", field.applies_key, field.applies_value);
    }
    const std::string default_text = field.default_text == "[]" ? "none" : field.default_text;
    out += fmt::format("| `{}` | {} | {} | {} |\n", field.key, without_article(field.expected),
                       default_text, meaning);
  }
  return out;
}

std::string method_table() {
  std::string out;
  for (const auto& [method, name] : EnumNames<sparsity::Method>::kTable) {
    SparsityRule rule;
    rule.method = method;
    apply_method(rule);
    out += fmt::format("| {} | {} | {} | {} | {} | {} | {} |\n", name, name_of(rule.score),
                       name_of(rule.growth), name_of(rule.regrow), name_of(rule.schedule.kind),
                       rule.every, name_of(rule.weights));
  }
  return out;
}

}  // namespace

std::string recipe_reference_markdown() {
  const Schema schema = make_schema();
  std::string out(kIntroduction);
  std::string section;
  for (const auto& field : schema.recipe) {
    const std::string top = field.key.substr(0, field.key.find('.'));
    if (top == section)
      continue;
    section = top;
    out += fmt::format("\n## {}\n{}", section, table(schema.recipe, section));
  }
  out += fmt::format("\n## {}\n{}{}", kRuleList, kRuleIntroduction, method_table());
  out += "\nKeys of a rule:\n" + table(schema.rule, "");
  return out;
}

}  // namespace hew::train
