#include "train/recipe.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "core/error.h"
#include "train/recipe_check.h"
#include "train/recipe_schema.h"
#include "train/recipe_tree.h"

namespace hew::train {
namespace {

// Fills structs from a tree and remembers which keys went wrong.
class Reader {
 public:
  Reader(const RecipeTree& tree, Problems& problems) : tree_(tree), problems_(problems) {}

  const std::set<std::string>& wrong() const { return wrong_; }

  // `prefix` is "" or "sparsity.N.".
  template <class S>
  void fill(const std::vector<Field<S>>& fields, const std::string& prefix, S& target) {
    for (const Field<S>& field : fields) read(field, prefix, target);
    const Written written = [&](std::string_view key) {
      return tree_.find(prefix + std::string(key)) != nullptr;
    };
    for (const Field<S>& field : fields) {
      if (!written(field.key))
        complete(field, prefix, written, target);
    }
    for (const Field<S>& field : fields) check_applies(field, prefix, target);
  }

 private:
  void report(const std::string& key, std::string_view what) {
    problems_.add(tree_.place_of(key), key, what);
    wrong_.insert(key);
  }

  template <class S>
  void read(const Field<S>& field, const std::string& prefix, S& target) {
    const std::string key = prefix + field.key;
    const RecipeTree::Leaf* leaf = tree_.find(key);
    if (leaf == nullptr || field.read(leaf->node, target))
      return;
    report(key, fmt::format("got {}, expected {}", describe_node(leaf->node), field.expected));
  }

  template <class S>
  void complete(const Field<S>& field, const std::string& prefix, const Written& written,
                S& target) {
    const std::string key = prefix + field.key;
    if (field.needed && field.needed(target)) {
      // Whoever misspelt a key, or a section, has already been told.
      if (tree_.was_misspelt(key)) {
        wrong_.insert(key);
      } else {
        report(key, fmt::format("missing, expected {}", field.expected));
      }
    } else if (field.fill_default) {
      field.fill_default(target, written);
    }
  }

  template <class S>
  void check_applies(const Field<S>& field, const std::string& prefix, const S& target) {
    const std::string key = prefix + field.key;
    const std::string deciding = prefix + field.applies_key;
    const bool unknown = wrong_.contains(deciding) || wrong_.contains(prefix + "method");
    if (unknown || tree_.find(key) == nullptr || field.is_active(target))
      return;
    report(key, fmt::format("only applies with {}: {}", deciding, field.applies_value));
  }

  const RecipeTree& tree_;
  Problems& problems_;
  std::set<std::string> wrong_;
};

void resolve_steps(const Schema& schema, Recipe& recipe) {
  for (const auto& field : schema.recipe) field.resolve(recipe, recipe.train.steps);
  for (auto& rule : recipe.sparsity) {
    for (const auto& field : schema.rule) field.resolve(rule, recipe.train.steps);
  }
}

// What the model has to know of its images.
void fit_to_images(Recipe& recipe) {
  layers::ModelConfig& model = recipe.model;
  if (!model.reads_images())
    return;
  model.image_size = recipe.data.image.size;
  model.channels = recipe.data.image.channels;
  if (model.patch_size > 0)
    model.context = model.image_tokens();
}

}  // namespace

Recipe parse_recipe(std::string_view text, std::string_view source_name,
                    const std::vector<std::string>& overrides) {
  const Schema schema = make_schema();
  const KeySet keys(schema);
  Problems problems;
  RecipeTree tree(keys, std::string(source_name), problems);
  tree.add_text(text);
  for (const std::string& assignment : overrides) tree.apply_override(assignment);

  Recipe recipe;
  Reader reader(tree, problems);
  reader.fill(schema.recipe, "", recipe);
  recipe.sparsity.resize(tree.list_size());
  for (std::size_t i = 0; i < recipe.sparsity.size(); ++i) {
    const std::string prefix = fmt::format("{}.{}.", kRuleList, i);
    reader.fill(schema.rule, prefix, recipe.sparsity[i]);
    const std::string match = prefix + "match";
    recipe.sparsity[i].match_origin.text = origin_of(tree.place_of(match), match);
  }
  fit_to_images(recipe);
  resolve_steps(schema, recipe);
  check_recipe(recipe, Checker(tree, reader.wrong(), problems));
  problems.throw_if_any();
  return recipe;
}

Recipe load_recipe(const std::string& path, const std::vector<std::string>& overrides) {
  std::error_code ignored;
  require<ConfigError>(!std::filesystem::is_directory(path, ignored),
                       "{}: cannot be read: it is a folder", path);
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  // An empty file inserts nothing, which also sets the fail bit of `text`: that is no read error.
  if (file)
    text << file.rdbuf();
  require<ConfigError>(file.is_open() && !file.bad(), "{}: cannot be read: {}", path,
                       std::strerror(errno));
  return parse_recipe(text.str(), path, overrides);
}

std::vector<std::string> missed_by_resume(const Recipe& saved, const Recipe& wanted,
                                          std::int64_t steps) {
  if (wanted.train.steps < steps) {
    return {fmt::format("train.steps: got {}, but {} steps are done", wanted.train.steps, steps)};
  }
  std::vector<std::string> missed;
  for (std::size_t i = 0; i < wanted.sparsity.size(); ++i) {
    const sparsity::SparsityRule& rule = wanted.sparsity[i];
    const std::int64_t end = rule.schedule.end.step;
    const bool moved =
        rule.every > 0 && saved.sparsity[i].schedule.end.step >= steps && end < steps;
    if (moved && !selects_every_step(rule)) {
      missed.push_back(fmt::format(
          "train.steps: got {}, which moves {}.{}.schedule.end to step {}, but {} steps are done",
          wanted.train.steps, kRuleList, i, end, steps));
    }
  }
  return missed;
}

std::int64_t samples_at_a_time(const TrainConfig& train, int ranks) {
  require<ConfigError>(train.batch % ranks == 0, "train.batch: {} is not a multiple of {} ranks",
                       train.batch, ranks);
  const std::int64_t share = train.batch / ranks;
  if (train.micro_batch == 0)
    return share;
  require<ConfigError>(share % train.micro_batch == 0,
                       "train.micro_batch: {} does not divide a rank's share of {}",
                       train.micro_batch, share);
  return train.micro_batch;
}

}  // namespace hew::train
