#include "train/memory_estimate.h"

#include <algorithm>

#include "sparsity/sparsifier.h"
#include "train/model_setup.h"

namespace hew::train {
namespace {

constexpr double kLogitsChunk = 256.0 * 1024 * 1024;     // of ag::linear_cross_entropy
constexpr double kLibraries = 0.6 * 1024 * 1024 * 1024;  // docs/results/gpu-h100.md
constexpr double kSum = 4;                               // bytes of a float32 that was added up

double width_of(DType dtype) {
  return static_cast<double>(size_of(dtype));
}

// What one token's way through a transformer block keeps, in elements.
struct BlockKeeps {
  double norms = 0;      // outputs of two norms
  double residual = 0;   // what these normalise
  double attention = 0;  // q, k, v, and the output
  double mlp = 0;        // inputs of the activation or gate, and its output
};

BlockKeeps kept_by_block(const layers::ModelConfig& model) {
  const auto width = static_cast<double>(model.width);
  const auto kv_width = static_cast<double>(model.kv_heads * model.head_width());
  const double hidden = model.family == layers::ModelFamily::kLlama ? 3 : 2;
  return {.norms = 2 * width,
          .residual = 2 * width,
          .attention = 2 * width + 2 * kv_width,
          .mlp = hidden * static_cast<double>(model.mlp_width)};
}

// Elements a token keeps through the whole model.
double kept_by_token(const Recipe& recipe, const StoredModel& stored) {
  const layers::ModelConfig& model = recipe.model;
  const auto width = static_cast<double>(model.width);
  const auto blocks = static_cast<double>(model.layers);
  const BlockKeeps keeps = kept_by_block(model);
  const double whole = keeps.norms + keeps.residual + keeps.attention + keeps.mlp;
  // Of a class token alone it is next to nothing.
  const bool one_row = model.reads_images() && model.pooling == layers::Pooling::kClassToken;
  const double last_norm = one_row ? 0 : 2 * width;
  const ag::ForwardContext context = forward_context(recipe);
  if (context.recompute_blocks)
    return blocks * width + whole + last_norm;
  double total = blocks * whole + last_norm;
  if (context.remake_norms)
    total -= (2 * blocks + 1) * width;
  if (context.remake_activations && model.family != layers::ModelFamily::kLlama)
    total -= static_cast<double>(stored.dense_mlps * model.mlp_width);
  return total;
}

// They are kept as patches.
double pixels_of_image(const layers::ModelConfig& model) {
  return static_cast<double>(model.channels * model.image_size * model.image_size);
}

// Bytes of the largest set of tensors that come and go.
double bytes_in_passing(const Recipe& recipe, const StoredModel& stored, double samples) {
  const layers::ModelConfig& model = recipe.model;
  const double size = width_of(activation_dtype(recipe.train.precision));
  const auto width = static_cast<double>(model.width);
  const double tokens = samples * static_cast<double>(model.context);
  const double logits = (model.reads_images() ? samples * static_cast<double>(model.classes)
                                              : tokens * static_cast<double>(model.vocab)) *
                        size;
  const bool whole = stored.sparse_head || model.reads_images();
  const double loss = (whole ? 2 * logits : std::min(logits, kLogitsChunk)) + tokens * width * size;
  const double hidden = model.family == layers::ModelFamily::kLlama ? 2 : 1;
  const double mlp = tokens * (hidden * static_cast<double>(model.mlp_width) + 2 * width) * size;
  return std::max(loss, mlp);
}

// Bytes of dense gradients at a time, `width` an element. Where micro-batches add up, all of them.
double bytes_of_dense_gradients(const Recipe& recipe, const StoredModel& model, bool adds_up,
                                double width) {
  double kept = 0;
  double passing = 0;
  double largest = 0;
  for (const StoredParameter& p : model.parameters) {
    if (adds_up || !p.used_up_early) {
      kept += p.dense_gradient * width;
    } else if (p.dense_gradient > 0) {
      kept += std::min(p.live, p.dense_gradient - p.live) * width;  // blocks that grow, at most
      passing += p.dense_gradient * width;
      largest = std::max(largest, p.dense_gradient * width);
    }
  }
  const double waiting = recipe.run.device.is_cpu() ? 0 : sparsity::Sparsifier::kHeldBytes;
  return kept + std::min(passing, waiting + largest);
}

double bytes_of_moment_element(const Recipe& recipe) {
  const double master = width_of(weight_dtype(recipe.train.precision));
  if (recipe.optim.kind == optim::OptimizerKind::kSgd)
    return recipe.optim.momentum > 0 ? master : 0;
  return 2 * (recipe.optim.moments == optim::MomentFormat::kBFloat16 ? 2 : master);
}

}  // namespace

MemoryEstimate estimate_memory(const Recipe& recipe, int ranks, const StoredModel& model) {
  const std::int64_t micro_batch = samples_at_a_time(recipe.train, ranks);
  const double master = width_of(weight_dtype(recipe.train.precision));
  const DType computed = activation_dtype(recipe.train.precision);
  const double size = width_of(computed);
  const bool copied = computed != weight_dtype(recipe.train.precision);
  MemoryEstimate out;
  double elements = 0;
  for (const StoredParameter& p : model.parameters) {
    elements += p.stored;
    if (p.masked || copied)
      out.copies += p.live * size;
    out.folded += p.folded * size;
  }
  out.weights = elements * master;
  out.averages = recipe.train.ema > 0 ? elements * master : 0;
  out.gradients = elements * master;
  out.moments = elements * bytes_of_moment_element(recipe) / (recipe.optim.shard ? ranks : 1);
  const auto tokens = static_cast<double>(micro_batch * recipe.model.context);
  out.activations = tokens * kept_by_token(recipe, model) * size +
                    tokens * static_cast<double>(recipe.model.layers * recipe.model.heads) * kSum;
  if (recipe.model.reads_images())
    out.activations += static_cast<double>(micro_batch) * pixels_of_image(recipe.model) * size;
  out.passing = bytes_in_passing(recipe, model, static_cast<double>(micro_batch));
  out.libraries = recipe.run.device.is_cpu() ? 0 : kLibraries;
  const bool adds_up = micro_batch * ranks < recipe.train.batch;
  out.dense_gradients = bytes_of_dense_gradients(recipe, model, adds_up, master);
  const double all_gradients = out.gradients + out.dense_gradients;
  const double first = adds_up ? all_gradients : model.head_elements * master;
  out.most = out.weights + out.copies + out.folded + out.moments + out.averages + out.passing +
             out.libraries + std::max(out.activations + first, all_gradients);
  return out;
}

}  // namespace hew::train
