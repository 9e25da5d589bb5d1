#include "train/recipe.h"

#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "core/error.h"

namespace {

using hew::ConfigError;
using hew::StepMark;
using hew::train::parse_recipe;
using hew::train::Recipe;
using namespace hew::sparsity;  // NOLINT(google-build-using-namespace)

const std::string kSource = HEW_SOURCE_DIR;

// One key a line, so that a test can name the line of what it changes.
const std::string kDense = R"(run:
  dir: runs/a
model:
  family: gpt2
  layers: 2
  heads: 4
  width: 64
  context: 32
data:
  train: a.h5
train:
  steps: 1000
  batch: 8
optim:
  lr: 1e-3
)";

const std::string kSparse = kDense + R"(sparsity:
  - match: blocks.*.mlp.*.weight
    method: blast
    block: 32
    schedule:
      final: 0.9
)";

std::string errors_of(const std::string& text, const std::vector<std::string>& overrides = {}) {
  try {
    parse_recipe(text, "r.yaml", overrides);
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

}  // namespace

TEST_CASE("defaults fill what the recipe leaves out, by family where they differ") {
  const Recipe gpt2 = parse_recipe(kDense, "r.yaml");
  CHECK(gpt2.model.kv_heads == 4);
  CHECK(gpt2.model.mlp_width == 256);
  CHECK(gpt2.model.bias);
  CHECK(gpt2.model.tied_embeddings);
  CHECK(gpt2.run.seed == 1);
  CHECK(gpt2.data.train == std::vector<std::string>{"a.h5"});
  CHECK(gpt2.sparsity.empty());

  const Recipe llama = parse_recipe(kDense, "r.yaml", {"model.family=llama"});
  CHECK(llama.model.mlp_width == 192);  // 170.7 rounded up to a multiple of 64
  CHECK_FALSE(llama.model.bias);
  CHECK_FALSE(llama.model.tied_embeddings);
  CHECK(llama.model.activation == hew::kernels::Activation::kSilu);
}

TEST_CASE("a text with a zero byte, which no file name can have, is refused in one line") {
  CHECK(errors_of(replaced(kDense, "dir: runs/a", "dir: \"a\\0b\"")) ==
        "r.yaml:2: run.dir: got 'a b', expected a text that is not empty");
  CHECK(errors_of(replaced(kDense, "train: a.h5", "train: \"a\\0b\"")) ==
        "r.yaml:10: data.train: got 'a b', expected a text or list of texts");
}

TEST_CASE("a rule knows where its `match` was written, which is no part of what it says") {
  const SparsityRule rule = parse_recipe(kSparse, "r.yaml").sparsity.at(0);
  CHECK(rule.match_origin.text == "r.yaml:17: sparsity.0.match");
  const SparsityRule other =
      parse_recipe(kSparse, "r.yaml", {"sparsity.0.match=blocks.*.mlp.*.weight"}).sparsity.at(0);
  CHECK(other.match_origin.text == "command line: sparsity.0.match=blocks.*.mlp.*.weight");
  CHECK(rule == other);
}

TEST_CASE("a method fills the slots, and the rule's own keys come first") {
  const SparsityRule blast = parse_recipe(kSparse, "r.yaml").sparsity.at(0);
  CHECK(blast.score == Score::kMagnitude);
  CHECK(blast.growth == Growth::kGradient);
  CHECK(blast.regrow == Regrow::kUnion);
  CHECK(blast.schedule.kind == ScheduleKind::kCubic);
  CHECK(blast.schedule.end.step == 750);
  CHECK(blast.weights == Weights::kLive);

  const SparsityRule mixed =
      parse_recipe(kSparse, "r.yaml", {"sparsity.0.regrow=none", "sparsity.0.every=7"})
          .sparsity.at(0);
  CHECK(mixed.regrow == Regrow::kNone);
  CHECK(mixed.growth == Growth::kNone);
  CHECK(mixed.every == 7);

  const SparsityRule mask =
      parse_recipe(kSparse, "r.yaml", {"sparsity.0.method=supermask"}).sparsity.at(0);
  CHECK(mask.score == Score::kLearned);
  CHECK(mask.weights == Weights::kDense);
  CHECK(mask.schedule.initial == 0.9);
  CHECK_FALSE(mask.freeze_scores_at.has_value());

  const SparsityRule soft =
      parse_recipe(kSparse, "r.yaml", {"sparsity.0.method=spartan"}).sparsity.at(0);
  CHECK(soft.score == Score::kSoftMagnitude);
  CHECK(soft.schedule.initial == 0);
  CHECK(soft.schedule.end.step == 200);
  CHECK(soft.freeze_scores_at->step == 800);
  CHECK(soft.sharpness.end.step == 800);
}

TEST_CASE("steps may be percentages or counted from the end") {
  const Recipe recipe =
      parse_recipe(kSparse, "r.yaml",
                   {"sparsity.0.schedule.begin=2.5%", "sparsity.0.schedule.end=-100",
                    "optim.schedule.warmup=29%", "train.steps=100", "sparsity.0.schedule.end=-10"});
  CHECK(recipe.sparsity[0].schedule.begin.step == 2);
  CHECK(recipe.sparsity[0].schedule.end.step == 90);
  CHECK(recipe.optim.schedule.warmup.step == 29);
}

TEST_CASE("all problems are reported in one pass, in order, with line and key") {
  std::string text = replaced(kSparse, "layers: 2", "layers: two");
  text = replaced(text, "heads: 4", "heads: 0");
  text = replaced(text, "  lr: 1e-3", "  lrr: 1e-3");
  text = replaced(text, "block: 32", "block: 36");
  CHECK(
      errors_of(text, {"train.stepz=3"}) ==
      "r.yaml:5: model.layers: got 'two', expected an integer ≥ 1 and ≤ 100000\n"
      "r.yaml:6: model.heads: got '0', expected an integer ≥ 1 and ≤ 1000000\n"
      "r.yaml:15: optim.lrr: unknown key, did you mean optim.lr?\n"
      "r.yaml:19: sparsity.0.block: got '36', expected an integer that is a multiple of 8, from 8 "
      "to 128\n"
      "command line: train.stepz=3: unknown key, did you mean train.steps?");
}

TEST_CASE("unknown keys get a hint") {
  CHECK(errors_of(kDense + "lr: 3\n") == "r.yaml:16: lr: unknown key, did you mean optim.lr?");
  CHECK(errors_of(kDense, {"optm.lr=3"}) ==
        "command line: optm.lr=3: unknown key, did you mean optim.lr?");
  CHECK(errors_of(kSparse, {"sparsity.0.shcedule.final=0.5"}) ==
        "command line: sparsity.0.shcedule.final=0.5: unknown key, did you mean "
        "sparsity.0.schedule.final?");
  // A misspelt section is one mistake, not one for every key in it.
  CHECK(errors_of(replaced(kDense, "optim:", "optmi:")) ==
        "r.yaml:14: optmi: unknown key, did you mean optim?");
  CHECK(errors_of(kDense + "optim.lr: 3\n") ==
        "r.yaml:16: optim.lr: a dotted key is for the command line; nest it in the file");
  CHECK(errors_of(kDense, {"checkpoint.colour=red"}) ==
        "command line: checkpoint.colour=red: unknown key, expected one of every, keep");
  CHECK(errors_of(kDense + "x: 3\n") ==
        "r.yaml:16: x: unknown key, expected one of checkpoint, data, model, optim, run, "
        "sparsity, train");
  CHECK(errors_of(kSparse, {"sparsity.#.block=8"}).find("unknown key") != std::string::npos);
  CHECK(errors_of(kSparse, {"sparsity.00.block=8"}).find("unknown key") != std::string::npos);
}

TEST_CASE("repeated keys are found at every depth") {
  CHECK(errors_of(replaced(kDense, "  width: 64\n", "  width: 64\n  width: 32\n")) ==
        "r.yaml:8: model.width: given twice, first in line 7");
  CHECK(errors_of(kDense + "run:\n  dir: b\n") == "r.yaml:16: run: given twice, first in line 1");
  CHECK(errors_of(kSparse + "      final: 0.8\n") ==
        "r.yaml:22: sparsity.0.schedule.final: given twice, first in line 21");
}

TEST_CASE("missing keys are named with what they should be") {
  CHECK(errors_of(replaced(kDense, "  dir: runs/a", "  seed: 1")) ==
        "r.yaml:1: run.dir: missing, expected a text that is not empty");
  CHECK(errors_of(replaced(kSparse, "    schedule:\n      final: 0.9\n", "")) ==
        "r.yaml:17: sparsity.0.schedule.final: missing, expected a number ≥ 0 and < 1");
  CHECK(errors_of(replaced(kSparse, "method: blast", "every: 5")) ==
        "r.yaml:17: sparsity.0.method: missing, expected one of blast, supermask, spartan, "
        "magnitude, rigl, set, static");
}

TEST_CASE("values of another type or out of range are refused") {
  const auto refused = [](const std::string& assignment) {
    const std::string text = errors_of(kSparse, {assignment});
    CHECK_MESSAGE(text.starts_with("command line: " + assignment + ": "), text);
    CHECK_MESSAGE(text.find('\n') == std::string::npos, text);
  };
  for (const char* assignment : {"train.steps=1e3",
                                 "train.steps=10.0",
                                 "train.steps=0x10",
                                 "train.steps=-1",
                                 "train.steps=",
                                 "train.steps=\"10\"",
                                 "train.steps=99999999999999999999",
                                 "optim.lr=0",
                                 "optim.lr=nan",
                                 "optim.lr=inf",
                                 "optim.lr=fast",
                                 "optim.lr=[1]",
                                 "model.bias=yes",
                                 "model.bias=1",
                                 "optim.betas=[0.9]",
                                 "optim.betas=[0.9, 1]",
                                 "optim.betas=0.9",
                                 "run.device=tpu",
                                 "run.device=cuda:x",
                                 "run.dir=",
                                 "train.precision=fp16",
                                 "optim.name=adam",
                                 "model.dropout=1",
                                 "optim.schedule.final=1.5",
                                 "optim.schedule.warmup=-3",
                                 "optim.schedule.warmup=101%",
                                 "sparsity.0.schedule.final=1",
                                 "sparsity.0.schedule.final=-0.1",
                                 "sparsity.0.block=136",
                                 "sparsity.0.block=0",
                                 "sparsity.0.match=[]",
                                 "sparsity.0.match=",
                                 "sparsity.0.schedule.end=1.5",
                                 "data.train=[]",
                                 "data.train=[a, [b]]",
                                 "optim=3",
                                 "sparsity=3",
                                 "sparsity.1.block=8",
                                 "sparsity.0=8",
                                 "run.dir=[",
                                 "run.dir"}) {
    refused(assignment);
  }
}

TEST_CASE("contradictions across keys are refused") {
  const auto refused = [](const std::vector<std::string>& overrides, const std::string& key) {
    const std::string text = errors_of(kSparse, overrides);
    CHECK_MESSAGE(text.find(key) != std::string::npos, text);
    CHECK_MESSAGE(text.find('\n') == std::string::npos, text);
  };
  refused({"model.width=66"}, "model.width");
  refused({"model.kv_heads=2"}, "model.kv_heads");
  refused({"model.family=llama", "model.kv_heads=3"}, "model.kv_heads");
  refused({"model.family=llama", "model.width=60"}, "even head width");
  refused({"model.family=llama", "model.bias=true"}, "model.bias");
  refused({"model.family=llama", "model.activation=relu"}, "expected silu in a llama");
  refused({"model.rope_theta=5"}, "only applies with model.family: llama");
  refused({"train.micro_batch=16"}, "train.micro_batch");
  refused({"train.micro_batch=3"}, "train.micro_batch");
  refused({"train.eval_every=10"}, "train.eval_every");
  refused({"train.ema=1"}, "train.ema=1");
  refused({"train.ema_every=2"}, "only applies with train.ema: above 0");
  refused({"train.ema=0.9", "train.ema_every=0"}, "train.ema_every");
  refused({"optim.moments=bfloat16", "optim.betas=[0.9, 0.999]"}, "optim.moments");
  refused({"optim.schedule.warmup=1001"}, "optim.schedule.warmup");
  refused({"optim.schedule={name: wsd, warmup: 90%}"}, "optim.schedule.decay");
  refused({"optim.schedule.decay=5"}, "only applies with optim.schedule.name: wsd");
  refused({"optim.momentum=0.5"}, "only applies with optim.name: sgd");
  refused({"sparsity.0.score=learned", "sparsity.0.growth=none", "sparsity.0.every=1"},
          "sparsity.0.weights: got live");
  refused({"sparsity.0.method=supermask", "sparsity.0.every=5"}, "sparsity.0.every");
  refused({"sparsity.0.method=supermask", "sparsity.0.schedule.initial=0.1"}, "schedule.initial");
  refused({"sparsity.0.method=spartan", "sparsity.0.scope=global"}, "sparsity.0.scope=global");
  refused({"sparsity.0.method=spartan", "sparsity.0.weights=live"}, "a soft mask needs the dense");
  refused({"sparsity.0.method=spartan", "sparsity.0.every=2"}, "sparsity.0.every=2");
  refused({"sparsity.0.method=spartan", "sparsity.0.sharpness.final=0"}, "sharpness.final");
  refused({"sparsity.0.method=spartan", "sparsity.0.sharpness.end=2000"}, "sharpness.end");
  refused({"sparsity.0.sharpness.final=3"}, "only applies with sparsity.0.score: soft_magnitude");
  refused({"sparsity.0.freeze_scores_at=3"}, "sparsity.0.score: learned or soft_magnitude");
  refused({"sparsity.0.growth=none", "sparsity.0.regrow=swap"}, "sparsity.0.regrow=swap");
  refused({"sparsity.0.growth=random", "sparsity.0.regrow=none"}, "sparsity.0.growth=random");
  refused({"sparsity.0.swap_fraction=0.1"}, "only applies with sparsity.0.regrow: swap");
  refused({"sparsity.0.schedule.begin=75%"}, "schedule.end");
  refused({"sparsity.0.schedule.end=1000"}, "schedule.end");
  refused({"sparsity.0.schedule.begin=-1001"}, "schedule.begin");
  refused({"sparsity.0.every=0"}, "sparsity.0.every");
  refused({"sparsity.0.schedule={name: table, table: [[0, 0.5], [0, 0.6]]}"}, "do not ascend");
  refused({"sparsity.0.schedule={name: table, table: [[0, 0.5], [80%, 0.6]]}"}, "schedule.table");
  refused({"sparsity.0.schedule={name: table, final: 0.5, table: [[0, 0.6]]}"}, "schedule.final");
  refused({"sparsity.0.schedule={name: table}"}, "schedule.table: missing");
  refused({"sparsity.0.schedule={name: table, table: []}"}, "sparsity.0.schedule.table: got");
  refused({"sparsity.0.scope=group"}, "sparsity.0.group: missing");
  refused({"sparsity.0.group=a"}, "only applies with sparsity.0.scope: group");
  refused({"sparsity.0.keep_dense_first=2", "sparsity.0.keep_dense_last=1"}, "keep_dense_first");
  refused({"sparsity.0.match=head.*"}, "head.weight");
  refused({"sparsity.0.match=[blocks.*, token_*]"}, "token_embedding.weight");
}

TEST_CASE("rules that select together must be alike") {
  const std::string two =
      replaced(kSparse, "    block: 32\n", "    block: 32\n    scope: global\n") +
      R"(  - match: blocks.*.attn.*.weight
    method: blast
    scope: global
    block: 16
    schedule: {final: 0.9}
)";
  CHECK(errors_of(two).starts_with("r.yaml:25: sparsity.1.scope: competes with sparsity.0"));
  CHECK(errors_of(two, {"sparsity.1.block=32"}).empty());
}

TEST_CASE("overrides take lists and sections, and bare texts with any character") {
  CHECK(parse_recipe(kSparse, "r", {"sparsity=[]"}).sparsity.empty());
  const Recipe recipe = parse_recipe(kSparse, "r",
                                     {"run.dir=a: b # c", "optim={lr: 0.5, name: sgd, momentum: 0}",
                                      "sparsity.0.match=*.up.*", "data.valid=[b.h5, \"c, d.h5\"]"});
  CHECK(recipe.run.dir == "a: b # c");
  CHECK(recipe.optim.lr == 0.5);
  CHECK(recipe.optim.momentum == 0);
  CHECK(recipe.sparsity[0].match == std::vector<std::string>{"*.up.*"});
  CHECK(recipe.data.valid == std::vector<std::string>{"b.h5", "c, d.h5"});
}

TEST_CASE("text that is no recipe is refused in one line") {
  for (const char* text : {"", "[1, 2]", "a: b: c", "run: {", "--- {}\n--- {}\n", ",run: {}",
                           "run: {}\n,", "\"", "&a [*a]"}) {
    const std::string error = errors_of(text);
    CHECK_MESSAGE(error.starts_with("r.yaml:"), error);
    CHECK_MESSAGE(error.find('\n') == std::string::npos, error);
  }
  CHECK_THROWS_WITH_AS(hew::train::load_recipe("no/such.yaml"),
                       "no/such.yaml: cannot be read: No such file or directory", ConfigError);
  CHECK_THROWS_WITH_AS(hew::train::load_recipe(kSource),
                       (kSource + ": cannot be read: it is a folder").c_str(), ConfigError);
}

TEST_CASE("the effective recipe reads back equal and is complete") {
  const std::vector<std::vector<std::string>> variants = {
      {},
      {"sparsity=[]"},
      {"model.family=llama", "run.dir=it's: \"ü\" #1", "run.device=cuda:3"},
      {"run.dir= 12 ", "data.train=[\"a,b\", \"[c]\", \"~\", \"\\n\", \"- x\"]"},
      {"optim={lr: 1e-30, name: sgd, schedule: {name: constant}}"},
      {"optim.schedule={name: wsd, decay: 12.5%}", "optim.lr=0.1234567890123456789"},
      {"sparsity.0.method=supermask", "sparsity.0.freeze_scores_at=-5"},
      {"sparsity.0.method=spartan", "sparsity.0.sharpness={initial: 0.5, end: 90%}"},
      {"train.ema=0.999", "train.ema_every=32", "train.ema_warmup=10%"},
      {"sparsity.0.method=spartan", "sparsity.0.freeze_scores_at=never"},
      {"sparsity.0.schedule={name: table, end: -1, table: [[0, 0.25], [33.3%, 0.5], [-9, 0.75]]}"},
      {"sparsity.0={match: [a, b], method: rigl, block: 8, scope: group, group: g, score: ema, "
       "schedule: {final: 0.5}}"},
  };
  for (const auto& overrides : variants) {
    const Recipe recipe = parse_recipe(kSparse, "r.yaml", overrides);
    const std::string yaml = to_yaml(recipe);
    INFO(yaml);
    const Recipe again = parse_recipe(yaml, "again.yaml");
    CHECK(again == recipe);
    CHECK(to_yaml(again) == yaml);
    CHECK(yaml.find("hash_check_every: 100") != std::string::npos);
  }
}

TEST_CASE("a resume may lengthen and reschedule, and nothing else") {
  const std::string saved_text = to_yaml(parse_recipe(kSparse, "r.yaml"));
  const Recipe saved = parse_recipe(saved_text, "saved.yaml");
  const auto conflicts = [&](const std::vector<std::string>& overrides) {
    return resume_conflicts(saved, parse_recipe(saved_text, "saved.yaml", overrides));
  };
  CHECK(conflicts({}).empty());
  CHECK(conflicts({"optim.lr=1e-3"}).empty());  // the same value
  CHECK(conflicts({"run.dir=b", "run.threads=3", "checkpoint.every=5"}).empty());
  CHECK(conflicts({"train.steps=2000"}).empty());
  CHECK(conflicts({"run.device=cuda", "train.precision=bf16", "train.recompute=blocks"}).empty());
  CHECK(conflicts({"train.precision=fp64"}).size() == 1);
  CHECK(conflicts({"run.seed=7"}).size() == 1);
  CHECK(parse_recipe(saved_text, "s", {"train.steps=2000"}).sparsity[0].schedule.end.step == 1500);

  const auto found = conflicts({"optim.lr=2", "sparsity.0.block=16", "train.batch=16"});
  REQUIRE(found.size() == 3);
  CHECK(found[0].starts_with("train.batch: the run has 8, got 16"));
  CHECK(found[1].starts_with("optim.lr: "));
  CHECK(found[2].starts_with("sparsity.0.block: "));
  CHECK(conflicts({"sparsity=[]"}).size() == 1);
}

TEST_CASE("the recipes that are shipped are valid") {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kSource + "/recipes")) {
    const std::string path = entry.path().string();
    CAPTURE(path);
    const Recipe recipe = hew::train::load_recipe(path);
    CHECK(recipe.run.dir == "runs/" + entry.path().stem().string());
    CHECK(parse_recipe(to_yaml(recipe), path) == recipe);
    ++count;
  }
  CHECK(count >= 8);
}

TEST_CASE("docs/recipe.md is what the schema says") {
  const std::string path = kSource + "/docs/recipe.md";
  const std::string wanted = hew::train::recipe_reference_markdown();
  if (std::getenv("HEW_UPDATE_DOCS") != nullptr)
    std::ofstream(path, std::ios::binary) << wanted;
  CHECK_MESSAGE(read_file(path) == wanted, "docs/recipe.md is stale: run with HEW_UPDATE_DOCS=1");
}
