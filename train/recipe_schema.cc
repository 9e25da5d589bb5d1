#include "train/recipe_schema.h"

#include "core/parallel.h"

namespace hew::train {

namespace {

using layers::ModelConfig;
using layers::ModelFamily;
using optim::LrScheduleConfig;
using optim::OptimConfig;

// An int64 holds the elements of so many layers of matrices with sides of kLargestSize, or four.
constexpr std::int64_t kMostLayers = 100'000;

bool is_llama(const Recipe& recipe) {
  return recipe.model.family == ModelFamily::kLlama;
}

bool is_vit(const Recipe& recipe) {
  return recipe.model.reads_images();
}

bool reads_text(const Recipe& recipe) {
  return !recipe.model.reads_images();
}

kernels::Activation usual_activation(const Recipe& recipe) {
  if (is_vit(recipe))
    return kernels::Activation::kGelu;
  return is_llama(recipe) ? kernels::Activation::kSilu : kernels::Activation::kGeluTanh;
}

// 4·width, or for a gated MLP as many parameters in three matrices, in whole 64s.
std::int64_t usual_mlp_width(const ModelConfig& model) {
  if (model.family != ModelFamily::kLlama)
    return 4 * model.width;
  constexpr std::int64_t kStep = 64;
  constexpr std::int64_t kThirds = 3 * kStep;
  return (8 * model.width + kThirds - 1) / kThirds * kStep;
}

Limit<std::vector<std::string>> not_empty() {
  return {"", [](const std::vector<std::string>& list) {
            for (const std::string& item : list) {
              if (item.empty())
                return false;
            }
            return !list.empty();
          }};
}

Limit<StepMark> not_negative() {
  return {"≥ 0", [](const StepMark& mark) { return mark.amount >= 0; }};
}

void add_model_options(std::vector<Field<Recipe>>& fields) {
  Section model(
      fields, "model", [](auto& r) -> auto& { return r.model; });
  model.add("tied_embeddings", &ModelConfig::tied_embeddings, "The head is the token embedding.")
      .defaults_to("gpt2: true, llama: false",
                   [](Recipe& r, const Written&) {
                     r.model.tied_embeddings = r.model.family == ModelFamily::kGpt2;
                   })
      .only_with("model.family", "gpt2 or llama", reads_text);
  model.add("bias", &ModelConfig::bias, "Linear layers and LayerNorms have biases; Llama has none.")
      .defaults_to("gpt2, vit: true, llama: false",
                   [](Recipe& r, const Written&) { r.model.bias = !is_llama(r); });
  model.add("activation", &ModelConfig::activation, "Activation of the MLP; Llama's gate has silu.")
      .defaults_to("gpt2: gelu_tanh, llama: silu, vit: gelu",
                   [](Recipe& r, const Written&) { r.model.activation = usual_activation(r); });
  model.add("dropout", &ModelConfig::dropout, below_one(),
            "Probability of dropping an activation while training.");
  model
      .add("norm_eps", &ModelConfig::norm_eps, positive(),
           "ε under the root of LayerNorm or RMSNorm.")
      .defaults_to("vit: 1e-06, else 1e-05", [](Recipe& r, const Written&) {
        if (is_vit(r))
          r.model.norm_eps = 1e-6;
      });
  model.add("rope_theta", &ModelConfig::rope_theta, positive(), "Base of the rotary embedding.")
      .only_with("model.family", "llama", is_llama);
  model.add("init_std", &ModelConfig::init_std, positive(),
            "Standard deviation of the initial weights.");
  Section start(
      fields, "model", [](auto& r) -> auto& { return r.start; });
  start.add(
      "init", &StartConfig::init,
      "A model to start from, of the same shape: what `hew import` or `hew export` wrote, a "
      "run or a checkpoint, relative to the working directory. Masks are chosen anew from its "
      "weights, and the optimizer starts at step 0. Without one, weights are drawn by "
      "`run.seed`.");
}

void add_lr_schedule_fields(std::vector<Field<Recipe>>& fields) {
  Section schedule(
      fields, "optim.schedule", [](auto& r) -> auto& { return r.optim.schedule; });
  schedule.add(
      "name", &LrScheduleConfig::kind,
      "Course of the learning rate after the warm-up; wsd stays at the peak until its decay.");
  schedule.add("warmup", &LrScheduleConfig::warmup, not_negative(),
               "Number of steps over which the learning rate rises linearly from 0.");
  schedule
      .add("final", &LrScheduleConfig::final, from_to(0, 1),
           "Learning rate of the last step as a fraction of `optim.lr`.")
      .only_with("optim.schedule.name", "linear, cosine or wsd", [](const Recipe& r) {
        return r.optim.schedule.kind != optim::LrScheduleKind::kConstant;
      });
  schedule
      .add("decay", &LrScheduleConfig::decay, not_negative(),
           "Number of last steps over which the learning rate falls linearly.")
      .only_with("optim.schedule.name", "wsd", [](const Recipe& r) {
        return r.optim.schedule.kind == optim::LrScheduleKind::kWsd;
      });
}

}  // namespace

void add_run_fields(std::vector<Field<Recipe>>& fields) {
  Section run(
      fields, "run", [](auto& r) -> auto& { return r.run; });
  run.add("dir", &RunConfig::dir,
          {"that is not empty", [](const std::string& s) { return !s.empty(); }},
          "Folder of the run: recipe, metrics, checkpoints.")
      .required();
  run.add("seed", &RunConfig::seed, at_least<std::int64_t>(0),
          "Seed of initial weights, sample order, dropout and random masks.");
  run.add("device", &RunConfig::device, "Where the run computes.");
  run.add("threads", &RunConfig::threads, between(0, kMostThreads),
          "Threads a rank; 0: all that it may use.");
  run.add("hash_check_every", &RunConfig::hash_check_every, at_least<std::int64_t>(0),
          "Steps between comparisons of all ranks' parameters and masks; 0: never.");
  run.add("timeout", &RunConfig::timeout, at_least<std::int64_t>(1),
          "Seconds that a rank waits for another before the job ends with an error.");
  run.add("deterministic", &RunConfig::deterministic,
          "Two runs give equal bytes on a GPU too, at some cost; on the CPU they always do.");
  run.add(
      "bsr_routes", &RunConfig::bsr_routes,
      "A table of `hew bench tune`, relative to the working directory: block-sparse products on "
      "the GPU that it was measured on go the way that was faster. Without one, by an estimate. "
      "A resume keeps the table of its checkpoint.");
  run.add("keep_folded", &RunConfig::keep_folded,
          "On a GPU, where products with live blocks go through dense ones: all products of a step "
          "share one dense copy of the matrix, which takes memory until the optimizer's step. Else "
          "each makes its own. Bits are the same.");
  run.add("peer_copies", &RunConfig::peer_copies,
          "Between GPUs of one host that reach each other's memory, copy engines average large "
          "gradients beside the backward pass. Else NCCL does, as it does between hosts; its "
          "sums may be rounded otherwise.");
}

void add_model_fields(std::vector<Field<Recipe>>& fields) {
  Section model(
      fields, "model", [](auto& r) -> auto& { return r.model; });
  const auto size = between(1, kLargestSize);
  model.add("family", &ModelConfig::family, "Architecture.").required();
  Section named(
      fields, "model", [](auto& r) -> auto& { return r; });
  named.add("size", &Recipe::vit_size, "A ViT's layers, heads and width by name.")
      .only_with("model.family", "vit", is_vit);
  // The named size has a number for it, unless the recipe says another.
  const auto by_size = [](Field<Recipe>& field, std::int64_t ModelConfig::*number,
                          std::int64_t layers::VitShape::*named_number) {
    field.required_if("", [](const Recipe& r) { return r.vit_size == layers::VitSize::kCustom; })
        .defaults_to("required; `model.size` may say it", [=](Recipe& r, const Written&) {
          r.model.*number = layers::vit_shape(r.vit_size).*named_number;
        });
  };
  by_size(model.add("layers", &ModelConfig::layers, between(1, kMostLayers), "Transformer blocks."),
          &ModelConfig::layers, &layers::VitShape::layers);
  by_size(
      model.add("heads", &ModelConfig::heads, size, "Attention heads; must divide `model.width`."),
      &ModelConfig::heads, &layers::VitShape::heads);
  model
      .add("kv_heads", &ModelConfig::kv_heads, size,
           "Heads of keys and values; must divide `model.heads`, and equal it in gpt2.")
      .defaults_to("`model.heads`",
                   [](Recipe& r, const Written&) { r.model.kv_heads = r.model.heads; })
      .only_with("model.family", "gpt2 or llama", reads_text);
  by_size(model.add("width", &ModelConfig::width, size, "Channels of the residual stream."),
          &ModelConfig::width, &layers::VitShape::width);
  model.add("mlp_width", &ModelConfig::mlp_width, size, "Channels inside the MLP.")
      .defaults_to("gpt2, vit: 4·width, llama: 8/3·width rounded up to a multiple of 64",
                   [](Recipe& r, const Written&) { r.model.mlp_width = usual_mlp_width(r.model); });
  model.add("context", &ModelConfig::context, size, "Tokens of a sequence.")
      .required_if("required", reads_text)
      .only_with("model.family", "gpt2 or llama", reads_text);
  model
      .add("vocab", &ModelConfig::vocab, between(0, kLargestSize),
           "Vocabulary; 0: that of the corpus.")
      .only_with("model.family", "gpt2 or llama", reads_text);
  add_vit_fields(fields);
  add_model_options(fields);
}

void add_data_and_train_fields(std::vector<Field<Recipe>>& fields) {
  Section data(
      fields, "data", [](auto& r) -> auto& { return r.data; });
  data.add("train", &DataConfig::train, not_empty(),
           "Corpora, or for a ViT images (docs/data.md), to train on: paths or globs, relative to "
           "the working directory.")
      .required();
  data.add("valid", &DataConfig::valid, "Corpora or images to evaluate on.");
  add_image_fields(fields);
  Section train(
      fields, "train", [](auto& r) -> auto& { return r.train; });
  const auto count = at_least<std::int64_t>(1);
  const auto count_or_zero = at_least<std::int64_t>(0);
  train.add("steps", &TrainConfig::steps, count, "Optimizer steps of the whole run.").required();
  train
      .add("batch", &TrainConfig::batch, count,
           "Samples (sequences or images) a step, over all ranks.")
      .required();
  train.add("micro_batch", &TrainConfig::micro_batch, count_or_zero,
            "Samples a rank computes at a time; must divide its share of the batch; 0: all of it.");
  train
      .add("label_smoothing", &TrainConfig::label_smoothing, below_one(),
           "ε: targets are 1 − ε for what is known and ε shared out over all classes. Evaluation "
           "has none.")
      .only_with("model.family", "vit", is_vit);
  train.add("precision", &TrainConfig::precision,
            "Type of compute; weights are float32 but for fp64. tf32 and bf16 need a GPU.");
  train
      .add("recompute", &TrainConfig::recompute,
           "What the backward pass computes once more instead of keeping it: nothing, the "
           "activations of dense MLPs, these and the outputs of norms, or the insides of "
           "transformer blocks. Bits are the same; on a GPU where `run.deterministic` is on.")
      .defaults_to("`run.device` cpu: none, cuda: activations", [](Recipe& r, const Written&) {
        r.train.recompute = r.run.device.is_cpu() ? Recompute::kNone : Recompute::kActivations;
      });
  const auto averages = [](const Recipe& r) { return r.train.ema > 0; };
  train.add("ema", &TrainConfig::ema, below_one(),
            "Decay of moving averages of all weights and scores, with which evaluations, exports "
            "and whatever reads a checkpoint compute; 0: none.");
  train.add("ema_every", &TrainConfig::ema_every, count, "Steps between their updates.")
      .only_with("train.ema", "above 0", averages);
  train
      .add("ema_warmup", &TrainConfig::ema_warmup, not_negative(),
           "Steps up to which they are the weights themselves; from there on the decay rises to "
           "`train.ema`.")
      .only_with("train.ema", "above 0", averages);
  train.add("log_every", &TrainConfig::log_every, count, "Steps between lines of metrics.");
  train.add("eval_every", &TrainConfig::eval_every, count_or_zero,
            "Steps between evaluations on `data.valid`; 0: only at the end.");
  train.add("eval_batches", &TrainConfig::eval_batches, count_or_zero,
            "Batches of `train.batch` samples an evaluation; 0: the whole split.");
}

void add_optim_fields(std::vector<Field<Recipe>>& fields) {
  Section optim(
      fields, "optim", [](auto& r) -> auto& { return r.optim; });
  const auto is_adamw = [](const Recipe& r) {
    return r.optim.kind == optim::OptimizerKind::kAdamW;
  };
  optim.add("name", &OptimConfig::kind, "Optimizer; sgd has momentum.");
  optim.add("lr", &OptimConfig::lr, positive(), "Peak learning rate.").required();
  optim
      .add("betas", &OptimConfig::betas,
           {"≥ 0 and < 1",
            [](const std::array<double, 2>& b) {
              return b[0] >= 0 && b[0] < 1 && b[1] >= 0 && b[1] < 1;
            }},
           "Decay of the first and second moments.")
      .only_with("optim.name", "adamw", is_adamw);
  optim.add("eps", &OptimConfig::eps, positive(), "ε beside the root of the second moment.")
      .only_with("optim.name", "adamw", is_adamw);
  optim
      .add("moments", &OptimConfig::moments,
           "What the moments are stored in; float32: as exact as the weights that are updated.")
      .only_with("optim.name", "adamw", is_adamw);
  optim.add("momentum", &OptimConfig::momentum, below_one(), "Momentum.")
      .only_with("optim.name", "sgd", [is_adamw](const Recipe& r) { return !is_adamw(r); });
  optim.add(
      "weight_decay", &OptimConfig::weight_decay, at_least(0.0),
      "Decay of matrices a step, times the learning rate; biases, norms and positions have none.");
  optim.add("clip_norm", &OptimConfig::clip_norm, at_least(0.0),
            "Largest global norm of the gradient; 0: no clipping.");
  optim.add(
      "shard", &OptimConfig::shard,
      "Share the moments out over the ranks, a slice of every parameter each (ZeRO stage 1).");
  add_lr_schedule_fields(fields);
}

void add_checkpoint_fields(std::vector<Field<Recipe>>& fields) {
  Section checkpoint(
      fields, "checkpoint", [](auto& r) -> auto& { return r.checkpoint; });
  checkpoint.add("every", &CheckpointConfig::every, at_least<std::int64_t>(0),
                 "Steps between checkpoints; 0: only at the end.");
  checkpoint.add("keep", &CheckpointConfig::keep, at_least<std::int64_t>(1),
                 "Newest checkpoints that are kept.");
}

Schema make_schema() {
  Schema schema;
  add_run_fields(schema.recipe);
  add_model_fields(schema.recipe);
  add_data_and_train_fields(schema.recipe);
  add_optim_fields(schema.recipe);
  add_checkpoint_fields(schema.recipe);
  add_rule_fields(schema.rule);
  return schema;
}

bool may_change_on_resume(std::string_view key) {
  return key == "train.steps" || key == "train.recompute" || key == "optim.shard" ||
         key.starts_with("checkpoint.") || (key.starts_with("run.") && key != "run.seed");
}

}  // namespace hew::train
