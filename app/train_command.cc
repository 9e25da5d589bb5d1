#include "app/train_command.h"

#include <omp.h>

#include <charconv>
#include <memory>
#include <string>
#include <vector>

#include "app/number_checks.h"
#include "app/rank_device.h"
#include "app/recipe_choice.h"
#include "core/error.h"
#include "train/dry_run.h"
#include "train/trainer.h"

namespace hew {
namespace {

struct TrainArguments {
  std::vector<std::string> words;  // a recipe's path, and key=value overrides
  bool dry_run = false;
  std::string profile;
  train::TrainOptions options;
};

std::string run_dir_override(const std::vector<std::string>& overrides) {
  constexpr std::string_view kKey = "run.dir=";
  std::string dir;
  for (const std::string& word : overrides) {
    if (word.starts_with(kKey))
      dir = word.substr(kKey.size());
  }
  return dir;
}

// The recipe saved in the run, with overrides that may only lengthen or reschedule it.
train::Recipe resumed_recipe(const RecipeChoice& choice) {
  require<ConfigError>(choice.path.empty(),
                       "command line: --resume takes the recipe saved in the run; drop {}",
                       choice.path);
  const std::string dir = run_dir_override(choice.overrides);
  require<ConfigError>(!dir.empty(), "command line: --resume needs run.dir=<the run's folder>");
  const std::string saved_path = train::RunDirectory(dir).recipe().string();
  const train::Recipe saved = train::load_recipe(saved_path);
  train::Recipe wanted = train::load_recipe(saved_path, choice.overrides);
  const std::vector<std::string> conflicts = train::resume_conflicts(saved, wanted);
  require<ConfigError>(conflicts.empty(), "command line: {}", fmt::join(conflicts, "; "));
  return wanted;
}

// Nothing for an empty text.
train::StepRange parse_profile(const std::string& text) {
  if (text.empty())
    return {};
  constexpr std::string_view kKey = "steps=";
  train::StepRange range;
  const std::size_t colon = text.find(':');
  auto number = [](std::string_view digits, std::int64_t& value) {
    const char* const end = digits.data() + digits.size();
    const auto [at, error] = std::from_chars(digits.data(), end, value);
    return error == std::errc() && at == end;
  };
  const std::string_view whole = text;
  const bool parsed = text.starts_with(kKey) && colon != std::string::npos &&
                      number(whole.substr(kKey.size(), colon - kKey.size()), range.begin) &&
                      number(whole.substr(colon + 1), range.end);
  require<ConfigError>(parsed && range.begin >= 1 && range.end >= range.begin,
                       "command line: --profile {}, expected steps=A:B with 1 <= A <= B", text);
  return range;
}

void run_train(const TrainArguments& arguments, const AppContext& context) {
  const RecipeChoice choice = choose_recipe(arguments.words);
  train::TrainOptions options = arguments.options;
  options.profile = parse_profile(arguments.profile);
  require<ConfigError>(arguments.options.resume || !choice.path.empty(),
                       "command line: which recipe? hew train RECIPE.yaml [key=value …]");
  const train::Recipe recipe = arguments.options.resume
                                   ? resumed_recipe(choice)
                                   : train::load_recipe(choice.path, choice.overrides);
  if (recipe.run.threads > 0)
    omp_set_num_threads(static_cast<int>(recipe.run.threads));
  if (arguments.dry_run) {
    const std::optional<train::DeviceMemory> here =
        train::device_memory(recipe.run.device, context.comm);
    if (context.root())
      fmt::print("{}", train::dry_run_report(recipe, context.comm.size(), make_cpu_stream(), here));
    return;
  }
  require<ConfigError>(context.stop_signal != nullptr, "command line: --dry-run: leave it out");
  const RankDevice device(
      recipe.run.device, context.comm,
      recipe.run.peer_copies ? dist::PeerCopying::kWherePossible : dist::PeerCopying::kNever);
  train::Trainer(recipe, options, device.comm(), *context.stop_signal, device.stream()).run();
}

}  // namespace

void add_train_command(CLI::App& app, const AppContext& context) {
  CLI::App* command = app.add_subcommand("train", "Train a model from a recipe");
  auto arguments = std::make_shared<TrainArguments>();
  command->add_option("recipe", arguments->words, "RECIPE.yaml, then key=value overrides");
  command->add_flag("--resume", arguments->options.resume,
                    "Go on from the newest checkpoint of run.dir, with the recipe saved there");
  command->add_flag("--dry-run", arguments->dry_run,
                    "Print layers, live blocks, memory and FLOPs; train nothing");
  command
      ->add_option("--profile", arguments->profile,
                   "steps=A:B: print a table of time by operation over these steps")
      ->type_name("steps=A:B");
  command
      ->add_option("--stop-after", arguments->options.stop_after,
                   "Leave with a checkpoint after this many steps; 0: of the untrained model")
      ->check(at_least(0));
  command->callback([arguments, &context] { run_train(*arguments, context); });
}

}  // namespace hew
