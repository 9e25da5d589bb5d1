#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "app/rank_device.h"
#include "data/blimp.h"
#include "data/lambada.h"
#include "data/tokenizer_choice.h"
#include "data/wikitext.h"
#include "train/trained_model.h"

namespace hew {

/// A task of `hew eval` as the command line has it.
struct TaskArguments {
  std::string name;                       // wikitext2, lambada or blimp; empty: none
  std::int64_t limit = 0;                 // the first so many items; 0: all
  TokenizerChoice tokenizer{.kind = {}};  // kind empty: the model's own
};

using TaskItems =
    std::variant<std::vector<WikitextArticle>, std::vector<LastWord>, std::vector<Phenomenon>>;

/// Adds --task, and what goes with it: --limit and the options of a tokenizer. `arguments` must
/// outlive the parsing. Returns --task.
CLI::Option* add_task_options(CLI::App& command, TaskArguments& arguments);

/// Reads what a task is made of. `data` is its one file or folder. Throws ConfigError, DataError.
TaskItems read_task_items(const TaskArguments& arguments, const std::vector<std::string>& data);

struct TaskRun {
  const train::TrainedModel& trained;
  const RankDevice& device;
  std::int64_t batch = 1;  // as many tokens at a time as so many contexts have
  bool json = false;       // one object instead of lines of text
};

/// What the model scores, as text without a last newline; equal on all ranks. Collective. Throws
/// ConfigError where there is no tokenizer, or one that is not the model's or has too many tokens.
std::string report_task(const TaskArguments& arguments, const TaskItems& items, const TaskRun& run);

}  // namespace hew
