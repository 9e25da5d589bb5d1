#include "train/recipe_check.h"

#include <algorithm>

#include "core/error.h"
#include "optim/adamw.h"

namespace hew::train {
namespace {

using layers::ModelFamily;

void check_model(const layers::ModelConfig& model, const Checker& checker) {
  checker.check(
      {"model.width", "model.heads"}, [&] { return model.width % model.heads == 0; },
      [&] {
        return fmt::format("got {}, expected a multiple of model.heads = {}", model.width,
                           model.heads);
      });
  checker.check(
      {"model.kv_heads", "model.heads"}, [&] { return model.heads % model.kv_heads == 0; },
      [&] {
        return fmt::format("got {}, expected a divisor of model.heads = {}", model.kv_heads,
                           model.heads);
      });
  if (model.family == ModelFamily::kVit)
    return;
  if (model.family == ModelFamily::kGpt2) {
    checker.check(
        {"model.kv_heads", "model.heads", "model.family"},
        [&] { return model.kv_heads == model.heads; },
        [&] {
          return fmt::format("got {}, expected model.heads = {} in a gpt2", model.kv_heads,
                             model.heads);
        });
    return;
  }
  checker.check(
      {"model.width", "model.heads", "model.family"},
      [&] { return model.width % model.heads != 0 || model.head_width() % 2 == 0; },
      [&] {
        return fmt::format(
            "{} / model.heads = {}, expected an even head width for the "
            "rotary embedding",
            model.width, model.head_width());
      });
  checker.check(
      {"model.bias", "model.family"}, [&] { return !model.bias; },
      [] { return "got true, expected false in a llama"; });
  checker.check(
      {"model.activation", "model.family"},
      [&] { return model.activation == kernels::Activation::kSilu; },
      [&] { return fmt::format("got {}, expected silu in a llama", name_of(model.activation)); });
}

void check_training(const Recipe& recipe, const Checker& checker) {
  const TrainConfig& train = recipe.train;
  checker.check(
      {"train.micro_batch", "train.batch"},
      [&] { return train.micro_batch == 0 || train.batch % train.micro_batch == 0; },
      [&] {
        return fmt::format("got {}, expected a divisor of train.batch = {}", train.micro_batch,
                           train.batch);
      });
  checker.check(
      {"train.precision", "run.device"},
      [&] {
        return !recipe.run.device.is_cpu() || train.precision == Precision::kFp32 ||
               train.precision == Precision::kFp64;
      },
      [&] {
        return fmt::format("got {}, expected fp32 or fp64 with run.device: cpu",
                           name_of(train.precision));
      });
  checker.check(
      {"train.eval_every", "data.valid"},
      [&] { return train.eval_every == 0 || !recipe.data.valid.empty(); },
      [&] {
        return fmt::format("got {}, expected 0 as there is no data.valid", train.eval_every);
      });
  checker.check(
      {"optim.moments", "optim.betas"},
      [&] {
        return recipe.optim.moments != optim::MomentFormat::kBFloat16 ||
               std::ranges::max(recipe.optim.betas) <= optim::AdamW::kMaxBFloat16Beta;
      },
      [] {
        return fmt::format("got bfloat16, which needs both of optim.betas to be at most {}",
                           optim::AdamW::kMaxBFloat16Beta);
      });
  const optim::LrScheduleConfig& schedule = recipe.optim.schedule;
  checker.check(
      {"optim.schedule.warmup", "train.steps"}, [&] { return schedule.warmup.step <= train.steps; },
      [&] {
        return fmt::format("got {}, expected at most train.steps = {}", to_string(schedule.warmup),
                           train.steps);
      });
  if (schedule.kind != optim::LrScheduleKind::kWsd)
    return;
  checker.check(
      {"optim.schedule.decay", "optim.schedule.warmup", "train.steps"},
      [&] { return schedule.warmup.step + schedule.decay.step <= train.steps; },
      [&] {
        return fmt::format(
            "{} steps after {} of warm-up, expected at most train.steps = "
            "{} together",
            schedule.decay.step, schedule.warmup.step, train.steps);
      });
}

void check_images(const Recipe& recipe, const Checker& checker) {
  const ImageTransformConfig& image = recipe.data.image;
  const std::int64_t patch = recipe.model.patch_size;
  checker.check(
      {"data.image.size", "model.patch_size"}, [&] { return image.size % patch == 0; },
      [&] {
        return fmt::format("got {}, expected a multiple of model.patch_size = {}", image.size,
                           patch);
      });
  checker.check(
      {"data.image.repeats", "train.batch"},
      [&] { return recipe.train.batch % image.repeats == 0; },
      [&] {
        return fmt::format("got {}, expected a divisor of train.batch = {}", image.repeats,
                           recipe.train.batch);
      });
  if (checker.is_wrong("data.image.size"))
    return;
  try {
    check_image_transform(image);
  } catch (const ConfigError& error) {
    const std::string text = error.what();  // `key: what is wrong`
    const std::size_t colon = text.find(": ");
    checker.check(
        {text.substr(0, colon)}, [] { return false; }, [&] { return text.substr(colon + 2); });
  }
}

}  // namespace

void Checker::check(std::initializer_list<std::string> keys, const std::function<bool()>& holds,
                    const std::function<std::string()>& explain) const {
  const bool skip =
      std::any_of(keys.begin(), keys.end(), [&](const std::string& key) { return is_wrong(key); });
  if (skip || holds())
    return;
  const std::string& key = *keys.begin();
  problems_.add(tree_.place_of(key), key, explain());
}

void check_recipe(const Recipe& recipe, const Checker& checker) {
  check_model(recipe.model, checker);
  if (recipe.model.reads_images() && !checker.is_wrong("model.family"))
    check_images(recipe, checker);
  check_training(recipe, checker);
  check_rules(recipe, checker);
}

}  // namespace hew::train
