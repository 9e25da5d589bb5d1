#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "layers/model.h"
#include "sparsity/sparsifier.h"
#include "train/checkpoint.h"
#include "train/recipe.h"
#include "train/run_directory.h"

namespace hew::train {

/// A model with the sparsity rules that act on it; the sparsifier points into the model.
struct SparseModel {
  std::unique_ptr<layers::Model> model;
  std::unique_ptr<sparsity::Sparsifier> sparsifier;
};

/// Of weights, their gradients and moments.
DType weight_dtype(Precision precision);
/// Of activations.
DType activation_dtype(Precision precision);

/// How a run of this recipe goes through its model: dtypes and recomputation. The caller fills in
/// step and sample.
ag::ForwardContext forward_context(const Recipe& recipe);

/// Tells the kernels of a stream how this recipe wants them: tf32, deterministic, dense
/// copies kept.
void set_up_kernels(const Recipe& recipe, const Stream& stream);

/// How a GPU's stream computes the products it has met (ProductSettings::export_choices); empty
/// where it has met none, and on the CPU.
std::string product_choices(const Stream& stream);

enum class Build : std::uint8_t { kWhole, kShapesOnly };

/// Dense starting weights by (run.seed, name), or shapes without memory. What recipe.model
/// leaves to the data is filled in. Sparsity is not applied yet: Sparsifier::initialise or
/// Checkpoint::restore_model does that. `interrupt` is asked every now and then, and may throw.
SparseModel build_model(const Recipe& recipe, const Stream& stream, Build build = Build::kWhole,
                        const std::function<void()>& interrupt = {});

/// Selects the masks that training moves as they are after so many steps, for a model that will not
/// be trained on. On a GPU masters under them become live blocks, for the fastest products.
void settle_masks(const SparseModel& parts, std::int64_t steps);

/// Opens the newest checkpoint of a run that is whole. Broken ones are passed over, each with a
/// line in `reports`. Throws DataError if there is none.
Checkpoint open_newest_checkpoint(const RunDirectory& directory, std::vector<std::string>& reports);

}  // namespace hew::train
