#include "app/export_command.h"

#include <fmt/format.h>

#include <memory>
#include <string>

#include "app/open_model.h"
#include "core/error.h"
#include "train/export.h"

namespace hew {
namespace {

struct ExportArguments {
  std::string run;
  std::string format;
  std::string output;
  std::string dtype;  // empty: the run's
  bool force = false;
};

train::ExportOptions options_of(const ExportArguments& arguments) {
  const auto format = parse_named<train::ExportFormat>(arguments.format);
  require<ConfigError>(format.has_value(),
                       "--format {}: expected bsr-hdf5, safetensors or dense-safetensors",
                       arguments.format);
  train::ExportOptions options{.format = *format, .dtype = {}, .force = arguments.force};
  if (!arguments.dtype.empty()) {
    options.dtype = parse_dtype(arguments.dtype);
    require<ConfigError>(is_floating(*options.dtype), "--dtype {}: expected fp32, bf16 or fp64",
                         arguments.dtype);
  }
  return options;
}

void run_export(const ExportArguments& arguments, const AppContext& context) {
  if (!context.root())
    return;
  const train::ExportOptions options = options_of(arguments);
  train::check_export_output(arguments.output, options);
  const train::TrainedModel trained = open_model(arguments.run, context, make_cpu_stream());
  const train::ExportReport report = train::export_model(trained, arguments.output, options);
  fmt::print("{}: {} bytes as {} {}; dense weights take {} bytes ({:.2f} times as much)\n",
             arguments.output, report.bytes, arguments.format, name_of(report.dtype),
             report.dense_bytes,
             static_cast<double>(report.dense_bytes) / static_cast<double>(report.bytes));
}

}  // namespace

void add_export_command(CLI::App& app, const AppContext& context) {
  CLI::App* command = app.add_subcommand("export", "Write a trained model for inference");
  auto arguments = std::make_shared<ExportArguments>();
  command->add_option("run", arguments->run, "Run directory, checkpoint or exported model")
      ->required();
  command
      ->add_option("--format", arguments->format,
                   "bsr-hdf5 or safetensors (one file, masked weights as BSR), or "
                   "dense-safetensors (a folder for Hugging Face)")
      ->required();
  command->add_option("-o,--output", arguments->output, "File, or folder, to write")->required();
  command->add_option("--dtype", arguments->dtype, "fp32, bf16 or fp64; by default the run's");
  command->add_flag("--force", arguments->force, "Replace an earlier export");
  command->callback([arguments, &context] { run_export(*arguments, context); });
}

}  // namespace hew
