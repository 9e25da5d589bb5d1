#include "app/eval_command.h"

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "app/eval_images.h"
#include "app/eval_task.h"
#include "app/number_checks.h"
#include "app/open_model.h"
#include "app/rank_device.h"
#include "core/error.h"
#include "io/safetensors.h"
#include "train/evaluation.h"
#include "train/json_line.h"

namespace hew {
namespace {

struct EvalArguments {
  std::string run;
  std::vector<std::string> data;  // empty: the recipe's data.valid
  std::int64_t batch = 8;
  std::string device = "cpu";
  bool json = false;
  std::string dump_logits;
  TaskArguments task;
};

std::shared_ptr<const TokenCorpus> open_corpus(const EvalArguments& arguments,
                                               const train::TrainedModel& trained) {
  const std::vector<std::string>& patterns =
      arguments.data.empty() ? trained.recipe.data.valid : arguments.data;
  require<ConfigError>(!patterns.empty(),
                       "{}: its recipe names no data.valid; give --data corpus.h5", arguments.run);
  auto corpus =
      std::make_shared<const TokenCorpus>(TokenCorpus::open(patterns, trained.recipe.model.vocab));
  if (!trained.data.tokenizer.sha256.empty())
    corpus->require_tokenizer(trained.data.tokenizer.sha256);
  return corpus;
}

// Logits of the corpus's first window: what an exported model is compared with.
void dump_logits(const std::string& path, const layers::LanguageModel& model,
                 const std::shared_ptr<const TokenCorpus>& corpus, const Stream& stream) {
  SequentialBatches batches(std::make_shared<const TokenDataset>(corpus, model.config().context),
                            stream, /*micro_batch=*/1, {}, /*max_windows=*/1);
  const std::optional<Batch> batch = batches.next();
  require<DataError>(batch.has_value(), "{}: shorter than one window", corpus->path());
  ag::ForwardContext context;
  const Tensor logits = model.forward(batch->inputs, context).value();
  const Tensor ids = batch->inputs.reshape({batch->inputs.numel()});
  const std::vector<TensorSpec> tensors{
      {.name = "ids", .dtype = ids.dtype(), .shape = ids.shape()},
      {.name = "logits", .dtype = logits.dtype(), .shape = logits.shape()}};
  SafetensorsWriter writer(path, tensors, {});
  writer.write("ids", ids);
  writer.write("logits", logits);
  writer.commit();
}

void run_task(const EvalArguments& arguments, const AppContext& context) {
  const TaskItems items = read_task_items(arguments.task, arguments.data);
  const RankDevice device(parse_device(arguments.device), context.comm);
  const train::TrainedModel trained = open_model(arguments.run, context, device.stream());
  const std::string report = report_task(
      arguments.task, items,
      {.trained = trained, .device = device, .batch = arguments.batch, .json = arguments.json});
  if (context.root())
    fmt::print("{}\n", report);
}

void print_images(const EvalArguments& arguments, const train::TrainedModel& trained,
                  const RankDevice& device) {
  const std::string report = report_images(trained,
                                           {.data = arguments.data,
                                            .batch = arguments.batch,
                                            .json = arguments.json,
                                            .dump_logits = arguments.dump_logits},
                                           device);
  if (device.comm().rank() == 0)
    fmt::print("{}\n", report);
}

void run_loss(const EvalArguments& arguments, const AppContext& context) {
  require<ConfigError>(
      arguments.dump_logits.empty() || !std::filesystem::exists(arguments.dump_logits),
      "--dump-logits {}: exists already", arguments.dump_logits);
  const RankDevice device(parse_device(arguments.device), context.comm);
  const Stream& stream = device.stream();
  const train::TrainedModel trained = open_model(arguments.run, context, stream);
  if (trained.recipe.model.reads_images())
    return print_images(arguments, trained, device);
  const std::shared_ptr<const TokenCorpus> corpus = open_corpus(arguments, trained);
  const layers::LanguageModel& model = layers::as_language_model(*trained.parts.model);
  const train::Evaluation result =
      train::evaluate(model, corpus, {.batch = arguments.batch}, device.comm(), stream);
  if (!context.root())
    return;
  if (!arguments.dump_logits.empty()) {
    dump_logits(arguments.dump_logits, model, corpus, stream);
  }
  if (!arguments.json) {
    fmt::print("{}  step {}\n{}\n", trained.file, trained.progress.steps, to_string(result));
    return;
  }
  nlohmann::ordered_json object{{"file", trained.file}, {"step", trained.progress.steps}};
  object.update(numbers_of(result));
  fmt::print("{}\n", train::json_line(object));
}

}  // namespace

void add_eval_command(CLI::App& app, const AppContext& context) {
  CLI::App* command = app.add_subcommand(
      "eval", "Validation loss of a trained model, of a ViT accuracy too; or a task");
  auto arguments = std::make_shared<EvalArguments>();
  command->add_option("run", arguments->run, "Run directory, checkpoint or exported model")
      ->required();
  command->add_option(
      "--data", arguments->data,
      "Corpora or images instead of the recipe's data.valid; of a task its file or folder");
  command
      ->add_option("--batch", arguments->batch,
                   "Windows or images computed at a time; of shorter texts as many tokens")
      ->check(at_least(1))
      ->capture_default_str();
  command->add_option("--device", arguments->device, "cpu, cuda or cuda:N")->capture_default_str();
  command->add_flag("--json", arguments->json, "Print one JSON object");
  CLI::Option* dump = command->add_option(
      "--dump-logits", arguments->dump_logits,
      "Also write ids (images) and logits of the first window (batch) to this safetensors "
      "file");
  add_task_options(*command, arguments->task)->excludes(dump);
  command->callback([arguments, &context] {
    arguments->task.name.empty() ? run_loss(*arguments, context) : run_task(*arguments, context);
  });
}

}  // namespace hew
