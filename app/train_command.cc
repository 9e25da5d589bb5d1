#include "app/train_command.h"

#include <omp.h>

#include <memory>
#include <string>
#include <vector>

#include "core/error.h"
#include "train/dry_run.h"
#include "train/trainer.h"

namespace hew {
namespace {

struct TrainArguments {
  std::vector<std::string> words;  // a recipe's path, and key=value overrides
  bool dry_run = false;
  train::TrainOptions options;
};

struct RecipeChoice {
  std::string path;  // empty: none was named
  std::vector<std::string> overrides;
};

RecipeChoice split(const std::vector<std::string>& words) {
  RecipeChoice choice;
  for (const std::string& word : words) {
    if (word.find('=') != std::string::npos) {
      choice.overrides.push_back(word);
    } else {
      require<ConfigError>(choice.path.empty(), "command line: two recipes, {} and {}", choice.path,
                           word);
      choice.path = word;
    }
  }
  return choice;
}

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

void run_train(const TrainArguments& arguments, const AppContext& context) {
  const RecipeChoice choice = split(arguments.words);
  require<ConfigError>(arguments.options.resume || !choice.path.empty(),
                       "command line: which recipe? hew train RECIPE.yaml [key=value …]");
  const train::Recipe recipe = arguments.options.resume
                                   ? resumed_recipe(choice)
                                   : train::load_recipe(choice.path, choice.overrides);
  if (recipe.run.threads > 0)
    omp_set_num_threads(static_cast<int>(recipe.run.threads));
  const Stream stream = make_cpu_stream();
  if (arguments.dry_run) {
    if (context.root())
      fmt::print("{}", train::dry_run_report(recipe, context.comm.size(), stream));
    return;
  }
  require<ConfigError>(recipe.run.device.is_cpu(), "run.device: this build has no {}",
                       to_string(recipe.run.device));
  train::Trainer(recipe, arguments.options, context.comm, *context.stop_signal, stream).run();
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
      ->add_option("--stop-after", arguments->options.stop_after,
                   "Leave with a checkpoint after this many steps")
      ->check(CLI::PositiveNumber);
  command->callback([arguments, &context] { run_train(*arguments, context); });
}

}  // namespace hew
