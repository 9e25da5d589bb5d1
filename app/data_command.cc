#include "app/data_command.h"

#include <fmt/format.h>

#include <array>
#include <filesystem>
#include <map>
#include <memory>

#include "app/data_images_command.h"
#include "app/number_checks.h"
#include "app/recipe_choice.h"
#include "app/tokenizer_options.h"
#include "core/error.h"
#include "data/image_set.h"
#include "data/path_pattern.h"
#include "data/prepare.h"
#include "data/token_corpus.h"
#include "train/batch_dump.h"

namespace hew {
namespace {

std::string text_of(const std::optional<std::int64_t>& number) {
  return number ? std::to_string(*number) : "not known";
}

void report(const std::string& path, const CorpusInfo& info) {
  fmt::print(
      "{}: {} tokens, {} documents, {} bytes of text ({:.3f} a token), tokenizer {} {:.12}\n", path,
      info.tokens, text_of(info.documents), text_of(info.bytes),
      static_cast<double>(info.bytes.value_or(0)) / static_cast<double>(info.tokens),
      info.tokenizer_kind, info.tokenizer_sha256);
}

void tokenize(const PrepareOptions& options) {
  const PrepareResult result = prepare_corpus(options);
  report(options.output, result.train);
  if (result.valid)
    report(options.valid_output, *result.valid);
}

void print_info(const std::string& path) {
  if (names_image_set(path))
    return print_image_info(path);
  const CorpusInfo info = TokenCorpus::open({path}).info();
  const bool known = !info.tokenizer_kind.empty();
  fmt::print("file           {}\n", path);
  fmt::print("format         {}\n", info.format);
  fmt::print("tokens         {}\n", info.tokens);
  fmt::print("documents      {}\n", text_of(info.documents));
  fmt::print("bytes          {}\n", text_of(info.bytes));
  fmt::print("vocab_size     {}\n", text_of(info.vocab_size));
  fmt::print("largest_token  {}\n", text_of(info.largest_token));
  fmt::print("tokenizer      {}\n", known ? info.tokenizer_kind : "not known");
  if (known)
    fmt::print("sha256         {}\n", info.tokenizer_sha256);
}

void add_tokenize(CLI::App& data, const AppContext& context) {
  CLI::App* command = data.add_subcommand("tokenize", "Turn text files into a corpus of tokens");
  const auto options = std::make_shared<PrepareOptions>();
  TokenizerChoice& tokenizer = options->tokenizer;
  command->add_option("inputs", options->inputs, "UTF-8 text files; - is standard input")
      ->required();
  command->add_option("-o,--output", options->output, "The corpus to write")->required();
  command->add_option("--valid-output", options->valid_output, "A corpus for the held-out tail");
  command->add_option("--valid-fraction", options->valid_fraction,
                      "The part of the text, at its end, to hold out");
  const std::map<std::string, Documents> documents = {
      {"separator", Documents::kSeparator}, {"file", Documents::kFile}, {"line", Documents::kLine}};
  command
      ->add_option("--documents", options->documents,
                   "What ends a document: a line <|endoftext|> (separator), a file, or a line")
      ->transform(CLI::CheckedTransformer(documents));
  command->add_flag("--force", options->force, "Overwrite outputs that exist");
  add_tokenizer_options(*command, tokenizer);
  command->add_option("--vocab-size", tokenizer.vocab_size,
                      "Train a SentencePiece model with so many pieces, on the training part");
  command->add_option("--model-type", tokenizer.model_type, "Of that model: unigram or bpe");
  command->add_option("--save-model", tokenizer.save_model, "Keep that model as a file too");
  command->callback([options, &context] {
    if (context.root())
      tokenize(*options);
  });
}

struct BatchesArguments {
  std::vector<std::string> words;  // a recipe's path, key=value overrides, and the output
  std::int64_t steps = 0;
  bool force = false;
};

void write_batches(const BatchesArguments& arguments, const AppContext& context) {
  if (!context.root())
    return;
  require<ConfigError>(
      arguments.words.size() >= 2 && arguments.words.back().find('=') == std::string::npos,
      "command line: hew data batches RECIPE.yaml [key=value …] --steps N OUT.bin");
  const RecipeChoice choice = choose_recipe({arguments.words.begin(), arguments.words.end() - 1});
  require<ConfigError>(!choice.path.empty(),
                       "command line: which recipe? hew data batches RECIPE.yaml … OUT.bin");
  require<ConfigError>(arguments.force || !std::filesystem::exists(arguments.words.back()),
                       "{}: exists already; --force overwrites it", arguments.words.back());
  const train::Recipe recipe = train::load_recipe(choice.path, choice.overrides);
  require_no_input(arguments.words.back(), std::array{choice.path});
  require_no_input(arguments.words.back(), recipe.data.valid);
  for (const std::string& pattern : recipe.data.train)
    require_no_input(arguments.words.back(), expand_pattern(pattern));
  train::write_batches(recipe, arguments.steps, arguments.words.back(), train::StopSignal());
}

void add_batches(CLI::App& data, const AppContext& context) {
  CLI::App* command = data.add_subcommand(
      "batches", "Write the tokens that the first training steps of a recipe see");
  const auto arguments = std::make_shared<BatchesArguments>();
  command
      ->add_option("words", arguments->words,
                   "RECIPE.yaml, then key=value overrides, then the file to write")
      ->required();
  command->add_option("--steps", arguments->steps, "So many steps, from the first on")
      ->required()
      ->check(at_least(1));
  command->add_flag("--force", arguments->force, "Overwrite a file that exists");
  command->callback([arguments, &context] { write_batches(*arguments, context); });
}

}  // namespace

void add_data_commands(CLI::App& app, const AppContext& context) {
  CLI::App* data = app.add_subcommand("data", "Prepare corpora and images, and look at them");
  data->require_subcommand(1);
  add_tokenize(*data, context);
  add_images_command(*data, context);
  add_batches(*data, context);
  CLI::App* info =
      data->add_subcommand("info", "Print what a corpus or a set of images says of itself");
  const auto path = std::make_shared<std::string>();
  info->add_option("corpus", *path,
                   "A sealed HDF5 corpus, an llm.c or nanoGPT .bin, or a set of images")
      ->required();
  info->callback([path, &context] {
    if (context.root())
      print_info(*path);
  });
}

}  // namespace hew
