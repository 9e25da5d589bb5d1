#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/device.h"
#include "core/named_enum.h"
#include "data/image_config.h"
#include "layers/config.h"
#include "layers/vit_size.h"
#include "optim/config.h"
#include "sparsity/rule.h"

namespace hew::train {

/// Types that a run computes in. Weights and moments are float64 in fp64 and float32 in the others;
/// tf32 rounds the factors of products with weights and in attention to 10 bits, bf16 activations
/// and a copy of the weights.
enum class Precision : std::uint8_t { kFp32, kTf32, kBf16, kFp64 };
/// What the backward pass computes once more instead of keeping it.
enum class Recompute : std::uint8_t { kNone, kActivations, kElementwise, kBlocks };

struct RunConfig {
  std::string dir;
  std::int64_t seed = 1;
  Device device;
  std::int64_t threads = 0;  // 0: all this process may use
  std::int64_t hash_check_every = 100;
  std::int64_t timeout = 300;  // seconds
  bool deterministic = false;
  std::string bsr_routes;  // a path, relative to the working directory; empty: none
  bool keep_folded = true;
  bool peer_copies = true;
  friend bool operator==(const RunConfig&, const RunConfig&) = default;
};

/// Where the weights come from.
struct StartConfig {
  std::string init;  // a path, relative to the working directory; empty: new ones by seed
  friend bool operator==(const StartConfig&, const StartConfig&) = default;
};

/// Paths or globs of corpora or images, relative to the working directory.
struct DataConfig {
  std::vector<std::string> train;
  std::vector<std::string> valid;
  ImageTransformConfig image;  // of a ViT
  friend bool operator==(const DataConfig&, const DataConfig&) = default;
};

struct TrainConfig {
  std::int64_t steps = 0;
  std::int64_t batch = 0;        // samples (sequences or images) a step, over all ranks
  std::int64_t micro_batch = 0;  // samples a rank computes at a time; 0: its whole share
  double label_smoothing = 0;    // of a ViT
  Precision precision = Precision::kFp32;
  Recompute recompute = Recompute::kNone;
  double ema = 0;              // decay of the weights' moving averages; 0: none
  std::int64_t ema_every = 1;  // steps between their updates
  StepMark ema_warmup = StepMark::at(0);
  std::int64_t log_every = 10;
  std::int64_t eval_every = 0;    // 0: only at the end
  std::int64_t eval_batches = 0;  // of `batch` samples; 0: the whole split
  friend bool operator==(const TrainConfig&, const TrainConfig&) = default;
};

struct CheckpointConfig {
  std::int64_t every = 0;  // 0: only at the end
  std::int64_t keep = 3;
  friend bool operator==(const CheckpointConfig&, const CheckpointConfig&) = default;
};

/// Everything a training run depends on. A Recipe that came from load_recipe or parse_recipe has
/// every default filled in, every step resolved, and no contradictions. docs/recipe.md has the
/// keys.
struct Recipe {
  RunConfig run;
  layers::VitSize vit_size = layers::VitSize::kCustom;  // model.size
  layers::ModelConfig model;
  StartConfig start;  // model.init
  DataConfig data;
  TrainConfig train;
  optim::OptimConfig optim;
  std::vector<sparsity::SparsityRule> sparsity;
  CheckpointConfig checkpoint;
  friend bool operator==(const Recipe&, const Recipe&) = default;
};

/// Reads YAML, then applies `key=value` overrides in order (dotted keys, list items by number:
/// `sparsity.0.block=16`; a whole section or list may be given in YAML's one-line form:
/// `sparsity=[]`). Throws one ConfigError with a line for every problem found, each with its place:
/// `recipe.yaml:12: optim.lrr: unknown key, did you mean optim.lr?`.
Recipe parse_recipe(std::string_view text, std::string_view source_name,
                    const std::vector<std::string>& overrides = {});
/// parse_recipe of a file. Throws ConfigError also if the file cannot be read.
Recipe load_recipe(const std::string& path, const std::vector<std::string>& overrides = {});

/// The effective recipe: every key that applies, defaults included. Steps are written as they were
/// given, so parse_recipe(to_yaml(r)) == r.
std::string to_yaml(const Recipe& recipe);

/// What `wanted` changes in a saved run that a resume may not change: anything but train.steps,
/// train.recompute, optim.shard, checkpoint.*, run.*, and train.precision between those that hold
/// float32 weights; one line a key. Percentages and steps counted from the end
/// follow a changed train.steps.
std::vector<std::string> resume_conflicts(const Recipe& saved, const Recipe& wanted);

/// What a run that has done `steps` steps under `saved` cannot make up for under `wanted`: an end
/// before them, or a last refresh that has moved before them and so would never come; one line
/// each.
std::vector<std::string> missed_by_resume(const Recipe& saved, const Recipe& wanted,
                                          std::int64_t steps);

/// Samples that each of `ranks` ranks computes at a time. Throws ConfigError where train.batch or
/// train.micro_batch does not divide evenly.
std::int64_t samples_at_a_time(const TrainConfig& train, int ranks);

/// The page docs/recipe.md: every key with type, range, default and meaning.
std::string recipe_reference_markdown();

}  // namespace hew::train

namespace hew {

template <>
struct EnumNames<train::Precision> {
  using E = train::Precision;
  static constexpr auto kTable = std::to_array<std::pair<E, std::string_view>>(
      {{E::kFp32, "fp32"}, {E::kTf32, "tf32"}, {E::kBf16, "bf16"}, {E::kFp64, "fp64"}});
};
template <>
struct EnumNames<train::Recompute> {
  using E = train::Recompute;
  static constexpr auto kTable =
      std::to_array<std::pair<E, std::string_view>>({{E::kNone, "none"},
                                                     {E::kActivations, "activations"},
                                                     {E::kElementwise, "elementwise"},
                                                     {E::kBlocks, "blocks"}});
};

}  // namespace hew
