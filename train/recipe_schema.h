#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "train/recipe.h"
#include "train/recipe_field.h"

namespace hew::train {

/// Name of the one list in a recipe; its items are sparsity rules.
inline constexpr std::string_view kRuleList = "sparsity";

/// All keys, in the order they are written and documented in. The single source for parsing,
/// defaults, ranges, the effective recipe and docs/recipe.md.
struct Schema {
  std::vector<Field<Recipe>> recipe;
  std::vector<Field<sparsity::SparsityRule>> rule;  // keys below `sparsity.N`
};

Schema make_schema();

/// Of a model's sizes.
inline constexpr std::int64_t kLargestSize = 1'000'000;

/// The tables that make_schema puts together.
void add_run_fields(std::vector<Field<Recipe>>& fields);
void add_model_fields(std::vector<Field<Recipe>>& fields);
void add_vit_fields(std::vector<Field<Recipe>>& fields);
void add_image_fields(std::vector<Field<Recipe>>& fields);
void add_data_and_train_fields(std::vector<Field<Recipe>>& fields);
void add_optim_fields(std::vector<Field<Recipe>>& fields);
void add_checkpoint_fields(std::vector<Field<Recipe>>& fields);
void add_rule_fields(std::vector<Field<sparsity::SparsityRule>>& fields);

/// Whether a resumed run may be given another value.
bool may_change_on_resume(std::string_view key);

}  // namespace hew::train
