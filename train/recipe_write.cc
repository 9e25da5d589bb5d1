#include "core/error.h"
#include "train/recipe.h"
#include "train/recipe_schema.h"

namespace hew::train {
namespace {

// Opens the sections around a key that the line before it did not have open.
class SectionWriter {
 public:
  SectionWriter(std::string& out, int indent) : out_(out), indent_(indent) {}

  template <class S>
  void write(const Field<S>& field, const S& target) {
    open(field.section);
    const std::string word = field.key.substr(field.key.rfind('.') + 1);
    line(depth_, fmt::format("{}: {}", word, field.write(target)));
  }

 private:
  void open(const std::string& section) {
    if (section == section_)
      return;
    depth_ = 0;
    std::size_t begin = 0;
    while (begin < section.size()) {
      const std::size_t end = std::min(section.find('.', begin), section.size());
      const bool is_open = section_.starts_with(section.substr(0, end)) &&
                           (section_.size() == end || section_[end] == '.');
      if (!is_open)
        line(depth_, section.substr(begin, end - begin) + ":");
      ++depth_;
      begin = end + 1;
    }
    section_ = section;
  }
  void line(int depth, const std::string& text) {
    constexpr int kStep = 2;
    out_ += std::string(static_cast<std::size_t>(kStep * depth + indent_), ' ') + text + '\n';
  }

  std::string& out_;
  int indent_;
  int depth_ = 0;
  std::string section_;
};

void write_rules(const Schema& schema, const Recipe& recipe, std::string& out) {
  out += std::string(kRuleList) + (recipe.sparsity.empty() ? ": []\n" : ":\n");
  constexpr int kIndent = 4;
  for (const sparsity::SparsityRule& rule : recipe.sparsity) {
    const std::size_t start = out.size();
    SectionWriter writer(out, kIndent);
    for (const auto& field : schema.rule) {
      if (field.is_active(rule))
        writer.write(field, rule);
    }
    out[start + 2] = '-';  // the first key of an item has the dash before it
  }
}

// The differences of two structs in keys that do not pass `may_change`.
template <class S>
void compare_fields(const std::vector<Field<S>>& fields, const std::string& prefix, const S& saved,
                    const S& wanted, std::vector<std::string>& conflicts) {
  for (const Field<S>& field : fields) {
    const std::string key = prefix + field.key;
    const std::string before = field.write(saved);
    const std::string after = field.write(wanted);
    if (before == after || may_change_on_resume(key))
      continue;
    conflicts.push_back(
        fmt::format("{}: the run has {}, got {}; a resume may change train.steps, "
                    "train.recompute, optim.shard, checkpoint.*, run.* but run.seed, and "
                    "train.precision between fp32, tf32 and bf16 only",
                    key, before, after));
  }
}

}  // namespace

std::string to_yaml(const Recipe& recipe) {
  const Schema schema = make_schema();
  std::string out;
  SectionWriter writer(out, 0);
  for (const auto& field : schema.recipe) {
    if (field.is_active(recipe))
      writer.write(field, recipe);
  }
  write_rules(schema, recipe, out);
  return out;
}

std::vector<std::string> resume_conflicts(const Recipe& saved, const Recipe& wanted) {
  const Schema schema = make_schema();
  std::vector<std::string> conflicts;
  Recipe known = saved;
  // These hold the same weights and moments.
  if (saved.train.precision != Precision::kFp64 && wanted.train.precision != Precision::kFp64)
    known.train.precision = wanted.train.precision;
  compare_fields(schema.recipe, "", known, wanted, conflicts);
  if (saved.sparsity.size() != wanted.sparsity.size()) {
    conflicts.push_back(fmt::format("{}: the run has {} rules, got {}", kRuleList,
                                    saved.sparsity.size(), wanted.sparsity.size()));
    return conflicts;
  }
  for (std::size_t i = 0; i < saved.sparsity.size(); ++i) {
    compare_fields(schema.rule, fmt::format("{}.{}.", kRuleList, i), saved.sparsity[i],
                   wanted.sparsity[i], conflicts);
  }
  return conflicts;
}

}  // namespace hew::train
