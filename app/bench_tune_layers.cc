#include "app/bench_tune_layers.h"

#include <algorithm>
#include <array>
#include <set>
#include <string_view>

#include "app/bench_bsr_weights.h"
#include "app/bench_options.h"
#include "core/error.h"
#include "train/model_setup.h"
#include "train/workload.h"

namespace hew {
namespace {

constexpr std::array<std::int64_t, 4> kUsualBlocks{16, 32, 64, 128};
constexpr std::array<std::string_view, 4> kDtypes{"bf16", "tf32", "fp32", "fp64"};

void check(const BenchTuneOptions& o) {
  const bool sizes = o.out_features > 0 || o.in_features > 0;
  const int given = (o.recipe.empty() ? 0 : 1) + (o.shapes.empty() ? 0 : 1) + (sizes ? 1 : 0);
  require<ConfigError>(given == 1,
                       "bench tune: expected one of --recipe, --shape, or --out-features with "
                       "--in-features and --tokens");
  require<ConfigError>(!sizes || (o.out_features > 0 && o.in_features > 0 && o.tokens > 0),
                       "bench tune: expected all of --out-features, --in-features, --tokens");
  require<ConfigError>(!o.recipe.empty() || o.overrides.empty(),
                       "bench tune: {} belongs to a --recipe, and there is none",
                       o.overrides.empty() ? "" : o.overrides.front());
  require<ConfigError>(o.tokens >= 0, "--tokens {}: expected 1 or more", o.tokens);
  check_blocks(o.blocks);
  for (const double density : o.densities) {
    require<ConfigError>(density > 0 && density <= 1, "--densities {}: expected above 0, up to 1",
                         density);
  }
  require<ConfigError>(!o.densities.empty(), "--densities: expected some");
  require<ConfigError>(
      o.dtype.empty() || std::find(kDtypes.begin(), kDtypes.end(), o.dtype) != kDtypes.end(),
      "--dtype {}: expected bf16, tf32, fp32 or fp64", o.dtype);
  require<ConfigError>(o.repeats >= 1, "--repeats {}: expected 1 or more", o.repeats);
}

TunedLayers layers_of_recipe(const BenchTuneOptions& o) {
  train::Recipe recipe = train::load_recipe(o.recipe, o.overrides);
  train::complete_model(recipe);
  const train::SparseModel parts =
      train::build_model(recipe, make_cpu_stream(), train::Build::kShapesOnly);
  const std::int64_t tokens =
      o.tokens > 0 ? o.tokens
                   : train::samples_at_a_time(recipe.train, /*ranks=*/1) * recipe.model.context;
  std::set<TunedLayer> layers;
  for (const sparsity::Sparsifier::Target& target : parts.sparsifier->targets()) {
    const std::vector<std::int64_t> own{parts.sparsifier->rules()[target.rule].block};
    for (const std::int64_t block : o.blocks.empty() ? own : o.blocks) {
      layers.insert({.tokens = tokens,
                     .out_features = target.weight->out_features(),
                     .in_features = target.weight->in_features(),
                     .block = block});
    }
  }
  require<ConfigError>(!layers.empty(), "{}: no sparsity rule, so nothing to tune", o.recipe);
  return {.layers = {layers.begin(), layers.end()},
          .dtype = o.dtype.empty() ? std::string(name_of(recipe.train.precision)) : o.dtype};
}

TunedLayers layers_of_shapes(const BenchTuneOptions& o) {
  const std::vector<BsrShape> shapes =
      o.shapes.empty()
          ? std::vector<BsrShape>{{.m = o.tokens, .n = o.out_features, .k = o.in_features}}
          : bsr_shapes_of(o.shapes);
  std::set<TunedLayer> layers;
  for (const BsrShape& shape : shapes) {
    const auto add = [&](std::int64_t block) {
      layers.insert({.tokens = o.tokens > 0 ? o.tokens : shape.m,
                     .out_features = shape.n,
                     .in_features = shape.k,
                     .block = block});
    };
    for (const std::int64_t block : o.blocks) add(block);
    for (const std::int64_t block : kUsualBlocks) {
      if (o.blocks.empty() && shape.n % block == 0 && shape.k % block == 0)
        add(block);
    }
  }
  require<ConfigError>(!layers.empty(),
                       "bench tune: none of 16, 32, 64, 128 divides the sizes; give --blocks");
  return {.layers = {layers.begin(), layers.end()}, .dtype = o.dtype.empty() ? "bf16" : o.dtype};
}

}  // namespace

TunedLayers tuned_layers(const BenchTuneOptions& options) {
  check(options);
  return options.recipe.empty() ? layers_of_shapes(options) : layers_of_recipe(options);
}

}  // namespace hew
