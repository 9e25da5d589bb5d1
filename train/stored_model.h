#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "train/memory_estimate.h"
#include "train/model_setup.h"
#include "train/recipe.h"

namespace hew::train {

/// A parameter of a model, and the rule that it is under.
struct ParameterRow {
  std::string name;
  Shape shape;
  const sparsity::Sparsifier::Target* target = nullptr;  // null: no rule
  sparsity::BlockGrid grid;
};

/// In the model's order; they point into it.
std::vector<ParameterRow> parameter_rows(const SparseModel& parts);

/// Blocks that are to live at `step`, of a matrix under a rule.
std::int64_t wanted_live(const sparsity::Sparsifier& sparsifier, const ParameterRow& row,
                         std::int64_t step);
/// Whether a refresh at `step` may bring dead blocks in, and asks for the dense gradient.
bool grows_at(const sparsity::SparsityRule& rule, std::int64_t step);

/// The model, which may be shapes without memory, as `ranks` ranks store it at `step`.
StoredModel stored_model(const Recipe& recipe, int ranks, const SparseModel& parts,
                         const std::vector<ParameterRow>& rows, std::int64_t step);

}  // namespace hew::train
