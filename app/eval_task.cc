#include "app/eval_task.h"

#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "app/number_checks.h"
#include "app/tokenizer_options.h"
#include "core/error.h"
#include "train/json_line.h"
#include "train/tasks.h"

namespace hew {
namespace {

using Json = nlohmann::ordered_json;

std::unique_ptr<Tokenizer> tokenizer_of(const TokenizerChoice& choice,
                                        const train::TrainedModel& trained) {
  const train::TokenizerRecord& own = trained.data.tokenizer;
  require<ConfigError>(!choice.kind.empty() || !own.kind.empty(),
                       "{}: holds no tokenizer; name it by --tokenizer", trained.file);
  std::unique_ptr<Tokenizer> tokenizer = choice.kind.empty()
                                             ? make_tokenizer(own.kind, own.blob, trained.file)
                                             : load_tokenizer(choice);
  require<ConfigError>(own.sha256.empty() || tokenizer->sha256() == own.sha256,
                       "{}: trained with another tokenizer ({} {:.12}) than --tokenizer names "
                       "({} {:.12})",
                       trained.file, own.kind, own.sha256, tokenizer->kind(), tokenizer->sha256());
  require<ConfigError>(tokenizer->vocab_size() <= trained.recipe.model.vocab,
                       "{}: has a vocabulary of {}, the {} tokenizer one of {}", trained.file,
                       trained.recipe.model.vocab, tokenizer->kind(), tokenizer->vocab_size());
  return tokenizer;
}

train::WikitextResult evaluate(const train::TextModel& model,
                               const std::vector<WikitextArticle>& articles) {
  return train::evaluate_wikitext(model, articles);
}

train::LambadaResult evaluate(const train::TextModel& model,
                              const std::vector<LastWord>& passages) {
  return train::evaluate_lambada(model, passages);
}

train::BlimpResult evaluate(const train::TextModel& model,
                            const std::vector<Phenomenon>& phenomena) {
  return train::evaluate_blimp(model, phenomena);
}

void add_to(Json& object, const train::WikitextResult& result) {
  object["word_perplexity"] = result.word_perplexity();
  object["bits_per_byte"] = result.bits_per_byte();
  object["loss"] = result.loss();
  object["articles"] = result.articles;
  object["words"] = result.words;
  object["bytes"] = result.bytes;
  object["tokens"] = result.tokens;
}

void add_to(Json& object, const train::LambadaResult& result) {
  object["accuracy"] = result.accuracy;
  object["perplexity"] = result.perplexity;
  object["passages"] = result.passages;
}

void add_to(Json& object, const train::BlimpResult& result) {
  object["accuracy"] = result.accuracy();
  Json& phenomena = object["phenomena"] = Json::object();
  for (const auto& share : result.phenomena)
    phenomena[share.name] = {{"accuracy", share.accuracy}, {"pairs", share.pairs}};
}

std::string text_of(const train::WikitextResult& result) {
  return fmt::format(
      "word perplexity {:.3f}  {:.4f} bits/byte  loss {:.4f} nats/token  ({} words, {} bytes, {} "
      "tokens in {} articles)",
      result.word_perplexity(), result.bits_per_byte(), result.loss(), result.words, result.bytes,
      result.tokens, result.articles);
}

std::string text_of(const train::LambadaResult& result) {
  return fmt::format("last word: accuracy {:.4f}  perplexity {:.3f}  ({} passages)",
                     result.accuracy, result.perplexity, result.passages);
}

std::string text_of(const train::BlimpResult& result) {
  std::string text;
  for (const auto& share : result.phenomena)
    text += fmt::format("{:.4f}  {} ({} pairs)\n", share.accuracy, share.name, share.pairs);
  return text +
         fmt::format("{:.4f}  mean of {} phenomena", result.accuracy(), result.phenomena.size());
}

}  // namespace

CLI::Option* add_task_options(CLI::App& command, TaskArguments& arguments) {
  CLI::Option* task =
      command
          .add_option("--task", arguments.name,
                      "Score the text of --data instead: wikitext2, lambada or blimp")
          ->check(CLI::IsMember({"wikitext2", "lambada", "blimp"}));
  command
      .add_option("--limit", arguments.limit,
                  "Only the first so many articles, passages, or pairs of each file")
      ->check(at_least(1))
      ->needs(task);
  for (CLI::Option* option : add_tokenizer_options(command, arguments.tokenizer))
    option->needs(task);
  return task;
}

TaskItems read_task_items(const TaskArguments& arguments, const std::vector<std::string>& data) {
  require<ConfigError>(data.size() == 1, "command line: --task {} takes one {}: --data PATH",
                       arguments.name, arguments.name == "blimp" ? "folder" : "file");
  if (arguments.name == "wikitext2")
    return read_wikitext(data.front(), arguments.limit);
  if (arguments.name == "lambada")
    return read_lambada(data.front(), arguments.limit);
  return read_blimp(data.front(), arguments.limit);
}

std::string report_task(const TaskArguments& arguments, const TaskItems& items,
                        const TaskRun& run) {
  const train::TrainedModel& trained = run.trained;
  const std::unique_ptr<Tokenizer> tokenizer = tokenizer_of(arguments.tokenizer, trained);
  const train::TextModel model{.model = layers::as_language_model(*trained.parts.model),
                               .tokenizer = *tokenizer,
                               .comm = run.device.comm(),
                               .stream = run.device.stream(),
                               .batch = run.batch};
  return std::visit(
      [&](const auto& kind) {
        const auto result = evaluate(model, kind);
        if (!run.json)
          return fmt::format("{}  step {}\n{}", trained.file, trained.progress.steps,
                             text_of(result));
        Json object{
            {"file", trained.file}, {"step", trained.progress.steps}, {"task", arguments.name}};
        add_to(object, result);
        return train::json_line(object);
      },
      items);
}

}  // namespace hew
