#include "app/import_command.h"

#include <fmt/format.h>

#include <memory>
#include <string>

#include "app/number_checks.h"
#include "core/error.h"
#include "train/export.h"
#include "train/import.h"

namespace hew {
namespace {

struct ImportArguments {
  std::string source;
  std::string output;
  bool no_tokenizer = false;
  bool force = false;
  train::ImportOptions options;
};

train::ExportOptions export_options(const ImportArguments& arguments) {
  const bool safetensors = arguments.output.ends_with(".safetensors");
  require<ConfigError>(safetensors || arguments.output.ends_with(".h5"),
                       "--output {}: expected a name that ends in .h5 or .safetensors",
                       arguments.output);
  return {.format = safetensors ? train::ExportFormat::kSafetensors : train::ExportFormat::kBsrHdf5,
          .force = arguments.force};
}

void run_import(const ImportArguments& arguments, const AppContext& context) {
  if (!context.root())
    return;
  const train::ExportOptions written = export_options(arguments);
  train::check_export_output(arguments.output, written);
  train::ImportOptions options = arguments.options;
  options.tokenizer = !arguments.no_tokenizer;
  const train::TrainedModel model = train::import_model(arguments.source, options);
  for (const std::string& warning : model.warnings) fmt::print(stderr, "warning: {}\n", warning);
  const train::ExportReport report = train::export_model(model, arguments.output, written);
  fmt::print("{}: {} bytes from {}; a recipe starts here with\n{}\nand model.init={}\n",
             arguments.output, report.bytes, arguments.source, train::model_section(model.recipe),
             arguments.output);
}

}  // namespace

void add_import_command(CLI::App& app, const AppContext& context) {
  CLI::App* command = app.add_subcommand(
      "import", "Read a model of Hugging Face's or timm's, for runs to start from");
  auto arguments = std::make_shared<ImportArguments>();
  command
      ->add_option("source", arguments->source,
                   "Folder with config.json and model.safetensors, or its shards")
      ->required();
  command->add_option("-o,--output", arguments->output, "File to write: .h5 or .safetensors")
      ->required();
  command
      ->add_option("--vocab", arguments->options.vocab,
                   "Pad embedding and head to so many tokens, by their mean row")
      ->check(at_least(1));
  command
      ->add_option("--context", arguments->options.context, "Keep only the first so many positions")
      ->check(at_least(1));
  command
      ->add_option("--image-size", arguments->options.image_size,
                   "Of a ViT: resize its positions to images of so many pixels")
      ->check(at_least(1));
  command
      ->add_option("--classes", arguments->options.classes,
                   "Of a ViT: another number than the folder's makes a new head")
      ->check(at_least(1));
  command->add_flag("--no-tokenizer", arguments->no_tokenizer, "Leave the folder's tokenizer out");
  command->add_flag("--force", arguments->force, "Replace an earlier model file");
  command->callback([arguments, &context] { run_import(*arguments, context); });
}

}  // namespace hew
