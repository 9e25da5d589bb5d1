#include "app/eval_task.h"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "tests/support/device.h"
#include "tests/train/tiny_run.h"

namespace hew::test {
namespace {

// A trained model, with a file for each task.
class Tried {
 public:
  Tried() : runs_(scratch_.path(), alone_), device_(Device{}, alone_) {
    run_training(runs_.recipe("run", {"train.steps=5"}), alone_);
    trained_ = train::load_trained_model(runs_.directory("run"), device_.stream());
    write_bytes(scratch_ / "wikitext2", " = One = \n the house , of sparse blocks \n = Two = \n");
    write_bytes(scratch_ / "lambada", "the house of\nsparse blocks\n");
    const std::string pair = R"({"sentence_good": "the house", "sentence_bad": "XQ&%#@!?~"})";
    write_bytes(scratch_ / "blimp", pair + "\n" + pair + "\n");
  }

  train::TrainedModel& trained() { return trained_; }
  std::string report(const TaskArguments& task, bool json) const {
    return report_task(task, read_task_items(task, {scratch_ / task.name}),
                       {.trained = trained_, .device = device_, .batch = 2, .json = json});
  }
  std::string error_of(const TokenizerChoice& tokenizer) const {
    try {
      report({.name = "lambada", .tokenizer = tokenizer}, /*json=*/true);
    } catch (const ConfigError& error) {
      return error.what();
    }
    return {};
  }

 private:
  Scratch scratch_;
  dist::LocalCommunicator alone_;
  TinyRuns runs_;
  RankDevice device_;
  train::TrainedModel trained_;
};

}  // namespace

TEST_CASE("a task's report is one JSON object, or text") {
  const Tried tried;
  const auto object = [&](const TaskArguments& task) {
    return nlohmann::json::parse(tried.report(task, /*json=*/true));
  };
  const auto wikitext = object({.name = "wikitext2"});
  CHECK(wikitext["task"] == "wikitext2");
  CHECK(wikitext["step"] == 5);
  CHECK(wikitext["articles"] == 2);
  CHECK(wikitext["words"] == 12);
  CHECK(wikitext["bits_per_byte"] > 1);
  CHECK(object({.name = "wikitext2", .limit = 1})["words"] == 9);
  CHECK(object({.name = "lambada"})["passages"] == 2);
  const auto blimp = object({.name = "blimp"});
  CHECK(blimp["accuracy"] == 1);  // bytes that the corpus does not have
  CHECK(blimp["phenomena"]["blimp"]["pairs"] == 2);
  CHECK(tried.report({.name = "lambada"}, /*json=*/false).ends_with("(2 passages)"));
  CHECK(tried.report({.name = "wikitext2"}, /*json=*/false).find("word perplexity ") !=
        std::string::npos);
  CHECK(tried.report({.name = "blimp"}, /*json=*/false)
            .ends_with("1.0000  blimp (2 pairs)\n1.0000  mean of 1 phenomena"));
}

TEST_CASE("a tokenizer that is missing, not the model's or too large is an error") {
  Tried tried;
  CHECK(tried.error_of({.kind = "bytes"}).empty());
  tried.trained().data.tokenizer.sha256[0] = 'x';
  CHECK(tried.error_of({.kind = "bytes"}).find("trained with another tokenizer (bytes x") !=
        std::string::npos);
  tried.trained().data.tokenizer = {};
  CHECK(tried.error_of({.kind = ""}).ends_with("holds no tokenizer; name it by --tokenizer"));
  CHECK(tried.error_of({.kind = "bytes"}).empty());
  CHECK(tried.error_of({.kind = "gpt2"}).find("--gpt2-encoder") != std::string::npos);
  CHECK(tried.error_of({.kind = "sentencepiece"}).find("--sentencepiece-model") !=
        std::string::npos);
  tried.trained().recipe.model.vocab = 100;
  CHECK(tried.error_of({.kind = "bytes"})
            .ends_with("has a vocabulary of 100, the bytes tokenizer one of 257"));
}

}  // namespace hew::test
