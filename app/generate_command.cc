#include "app/generate_command.h"

#include <fmt/format.h>

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "app/number_checks.h"
#include "app/open_model.h"
#include "core/error.h"
#include "data/tokenizer.h"
#include "train/generate.h"

namespace hew {
namespace {

struct GenerateArguments {
  std::string run;
  std::string prompt;
  std::vector<std::int32_t> prompt_tokens;
  std::string device = "cpu";
  train::GenerateOptions options;
};

// Text that is seen as soon as it is known.
void print_now(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

void generate_text(const GenerateArguments& arguments, const train::TrainedModel& trained,
                   const Tokenizer& tokenizer, const Stream& stream) {
  std::vector<std::int32_t> prompt = arguments.prompt_tokens;
  std::string shown = arguments.prompt;
  if (prompt.empty()) {
    prompt = tokenizer.encode(arguments.prompt);
  } else {
    shown = tokenizer.decode(prompt);
  }
  train::GenerateOptions options = arguments.options;
  options.vocab = tokenizer.vocab_size();
  options.end_of_text = tokenizer.end_of_text();
  bool first = true;
  const auto print_prompt = [&] {
    if (first)
      print_now(shown);
    first = false;
  };
  train::generate(
      layers::as_language_model(*trained.parts.model), prompt, options,
      [&](std::int32_t token) {
        print_prompt();
        print_now(tokenizer.piece(token));
      },
      stream);
  print_prompt();
  print_now("\n");
}

void generate_tokens(const GenerateArguments& arguments, const train::TrainedModel& trained,
                     const Stream& stream) {
  require<ConfigError>(!arguments.prompt_tokens.empty(),
                       "{}: holds no tokenizer; give --prompt-tokens instead of --prompt",
                       trained.file);
  train::generate(
      layers::as_language_model(*trained.parts.model), arguments.prompt_tokens, arguments.options,
      [](std::int32_t token) { print_now(fmt::format("{} ", token)); }, stream);
  print_now("\n");
}

void run_generate(const GenerateArguments& arguments, const AppContext& context) {
  if (!context.root())
    return;
  const Stream stream = make_stream(parse_device(arguments.device));
  const train::TrainedModel trained = open_model(arguments.run, context, stream);
  require<ConfigError>(trained.recipe.model.family != layers::ModelFamily::kVit,
                       "{}: a vit writes no text; hew predict names what is in pictures",
                       trained.file);
  const train::TokenizerRecord& record = trained.data.tokenizer;
  if (record.kind.empty()) {
    generate_tokens(arguments, trained, stream);
  } else {
    generate_text(arguments, trained, *make_tokenizer(record.kind, record.blob, trained.file),
                  stream);
  }
}

void add_sampling(CLI::App& command, train::GenerateOptions& options) {
  command.add_option("--tokens", options.tokens, "At most so many new ones")
      ->check(at_least(1))
      ->capture_default_str();
  command
      .add_option("--temperature", options.sampling.temperature,
                  "Divides the logits; 0 always takes the most probable token")
      ->check(at_least(0))
      ->capture_default_str();
  command.add_option("--top-k", options.sampling.top_k, "Of the so many most probable; 0: all")
      ->check(at_least(0))
      ->capture_default_str();
  command
      .add_option("--top-p", options.sampling.top_p,
                  "Of the most probable that together reach this probability")
      ->check(CLI::Range(1e-6, 1.0))
      ->capture_default_str();
  command.add_option("--seed", options.sampling.seed, "Of the draws")
      ->check(is_seed())
      ->capture_default_str();
}

}  // namespace

void add_generate_command(CLI::App& app, const AppContext& context) {
  CLI::App* command = app.add_subcommand("generate", "Let a trained model continue a text");
  auto arguments = std::make_shared<GenerateArguments>();
  command->add_option("run", arguments->run, "Run directory, checkpoint or exported model")
      ->required();
  CLI::Option* prompt = command->add_option("--prompt", arguments->prompt, "The text to continue");
  command->add_option("--prompt-tokens", arguments->prompt_tokens, "The same as tokens: 1,2,3")
      ->delimiter(',')
      ->excludes(prompt);
  command->add_option("--device", arguments->device, "cpu, cuda or cuda:N")->capture_default_str();
  add_sampling(*command, arguments->options);
  command->callback([arguments, &context] { run_generate(*arguments, context); });
}

}  // namespace hew
