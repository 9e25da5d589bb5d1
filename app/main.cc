#include <fmt/format.h>
#include <omp.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <exception>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <vector>

#include "app/bench_bsr.h"
#include "app/bench_endings.h"
#include "app/bench_kernels.h"
#include "app/bench_mlp.h"
#include "app/bench_model.h"
#include "app/bench_refresh.h"
#include "app/bench_tune.h"
#include "app/context.h"
#include "app/data_command.h"
#include "app/docs_command.h"
#include "app/eval_command.h"
#include "app/export_command.h"
#include "app/generate_command.h"
#include "app/import_command.h"
#include "app/inspect_command.h"
#include "app/predict_command.h"
#include "app/train_command.h"
#include "core/error.h"
#include "core/parallel.h"
#include "dist/mpi_comm.h"
#include "train/spelling.h"

namespace hew {
namespace {

// An error that all ranks share, such as a mistake in a recipe, is printed by rank 0 alone: the
// others wait this long before they speak, and are ended by then.
constexpr std::chrono::seconds kLetRootSpeak{3};

// The status of what CLI11 refuses, and of errors whose place is the command line or an option.
constexpr int kUsage = 2;

int fail(const dist::Communicator& comm, std::string_view message) {
  const bool usage = message.starts_with("command line: ") || message.starts_with("--");
  const int code = usage ? kUsage : 1;
  if (comm.size() == 1) {
    fmt::print(stderr, "hew: {}\n", message);
    return code;
  }
  if (comm.rank() != 0)
    std::this_thread::sleep_for(kLetRootSpeak);
  fmt::print(stderr, "hew: rank {}: {}\n", comm.rank(), message);
  return code;
}

// Whether a run is to be trained, and not only told about.
bool trains(int argc, char** argv) {
  const std::vector<std::string_view> words(argv, argv + argc);
  return argc > 1 && words[1] == "train" &&
         std::ranges::none_of(words, [](auto word) { return word.starts_with("--dry-run"); });
}

// CLI11 itself would only say that a subcommand is missing.
void require_known_command(const CLI::App& app, std::span<char*> words) {
  const std::vector<const CLI::App*> commands =
      app.get_subcommands([](const CLI::App*) { return true; });
  if (commands.empty() || words.empty() || *words.front() == '-')
    return;
  const std::string_view word = words.front();
  std::vector<std::string> known;
  for (const CLI::App* command : commands) {
    if (command->get_name() == word)
      return require_known_command(*command, words.subspan(1));
    known.push_back(command->get_name());
  }
  const std::vector<std::string> near = train::similar_keys(std::string(word), known);
  const std::string parent = app.get_parent() == nullptr ? "" : app.get_name() + " ";
  throw ConfigError(fmt::format("command line: unknown command {}{}{}", parent, word,
                                near.empty()
                                    ? "; --help lists them"
                                    : fmt::format(", did you mean {}{}?", parent, near.front())));
}

// Else the process would end without a word.
void require_threads_that_start() {
  const int threads = omp_get_max_threads();
  require<ConfigError>(threads <= kMostThreads, "OMP_NUM_THREADS: got {}, expected at most {}",
                       threads, kMostThreads);
}

int run(int argc, char** argv, const AppContext& context) {
  CLI::App app("hew: pretrains transformers with block-sparse weights");
  app.require_subcommand(1);
  app.set_version_flag("--version", "hew " HEW_VERSION);
  add_train_command(app, context);
  add_eval_command(app, context);
  add_generate_command(app, context);
  add_inspect_command(app, context);
  add_predict_command(app, context);
  add_export_command(app, context);
  add_import_command(app, context);
  add_data_commands(app, context);
  CLI::App* bench = app.add_subcommand("bench", "Time kernels and whole models");
  bench->require_subcommand(1);
  add_bench_bsr(*bench);
  add_bench_kernels(*bench);
  add_bench_endings(*bench);
  add_bench_mlp(*bench);
  add_bench_model(*bench);
  add_bench_refresh(*bench);
  add_bench_tune(*bench);
  add_docs_command(app, context);
  app.failure_message([](const CLI::App*, const CLI::Error& error) {
    return fmt::format("hew: command line: {} (--help tells what there is)\n", error.what());
  });
  try {
    require_threads_that_start();
    require_known_command(app, std::span(argv, static_cast<std::size_t>(argc)).subspan(1));
    app.parse(argc, argv);
    // Training goes on without a terminal; whoever asks for a text must not take none for one.
    if (!trains(argc, argv)) {
      const bool flushed = std::fflush(stdout) == 0;
      const int reason = flushed ? EIO : errno;  // EIO: an earlier flush met the error
      require<DataError>(flushed && std::ferror(stdout) == 0, "standard output: cannot write: {}",
                         std::generic_category().message(reason));
    }
    return 0;
  } catch (const CLI::ParseError& error) {
    const int code = context.root() ? app.exit(error) : error.get_exit_code();
    return code == 0 ? 0 : kUsage;
  } catch (const std::exception& error) {
    const bool memory = dynamic_cast<const std::bad_alloc*>(&error) != nullptr;
    const char* const memory_words =
        trains(argc, argv) ? "out of memory: train --dry-run tells what a recipe needs"
                           : "out of memory";
    const int code = fail(context.comm, memory ? memory_words : error.what());
    if (context.comm.size() > 1)
      context.comm.abort(code);
    return code;
  }
}

}  // namespace
}  // namespace hew

int main(int argc, char** argv) {
  // A closed pipe and a file over its limit are errors of the write, which end no run in silence.
  for (const int number : {SIGPIPE, SIGXFSZ}) std::signal(number, SIG_IGN);
  try {
    // Before MPI starts threads, so that they inherit the blocked signals.
    std::optional<hew::train::StopSignal> stop_signal;
    if (hew::trains(argc, argv))
      stop_signal.emplace();
    const std::unique_ptr<hew::dist::Communicator> comm = hew::dist::make_communicator();
    return hew::run(argc, argv,
                    {.comm = *comm, .stop_signal = stop_signal ? &*stop_signal : nullptr});
  } catch (const std::exception& error) {
    fmt::print(stderr, "hew: {}\n", error.what());
    return 1;
  }
}
