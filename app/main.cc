#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <exception>
#include <optional>
#include <string_view>
#include <thread>

#include "app/bench_bsr.h"
#include "app/context.h"
#include "app/data_command.h"
#include "app/docs_command.h"
#include "app/eval_command.h"
#include "app/export_command.h"
#include "app/generate_command.h"
#include "app/inspect_command.h"
#include "app/train_command.h"
#include "dist/mpi_comm.h"

namespace hew {
namespace {

// An error that all ranks share, such as a mistake in a recipe, is printed by rank 0 alone: the
// others wait this long before they speak, and are ended by then.
constexpr std::chrono::seconds kLetRootSpeak{3};

int fail(const dist::Communicator& comm, const char* message) {
  if (comm.size() == 1) {
    fmt::print(stderr, "hew: {}\n", message);
    return 1;
  }
  if (comm.rank() != 0)
    std::this_thread::sleep_for(kLetRootSpeak);
  fmt::print(stderr, "hew: rank {}: {}\n", comm.rank(), message);
  return 1;
}

int run(int argc, char** argv, const AppContext& context) {
  CLI::App app("hew: pretrains transformers with block-sparse weights");
  app.require_subcommand(1);
  add_train_command(app, context);
  add_eval_command(app, context);
  add_generate_command(app, context);
  add_inspect_command(app, context);
  add_export_command(app, context);
  add_data_commands(app);
  CLI::App* bench = app.add_subcommand("bench", "Time the kernels");
  bench->require_subcommand(1);
  add_bench_bsr(*bench);
  add_docs_command(app, context);
  app.failure_message([](const CLI::App*, const CLI::Error& error) {
    return fmt::format("hew: command line: {} (--help tells what there is)\n", error.what());
  });
  try {
    app.parse(argc, argv);
    return 0;
  } catch (const CLI::ParseError& error) {
    return context.root() ? app.exit(error) : error.get_exit_code();
  } catch (const std::exception& error) {
    const int code = fail(context.comm, error.what());
    if (context.comm.size() > 1)
      context.comm.abort(code);
    return code;
  }
}

}  // namespace
}  // namespace hew

int main(int argc, char** argv) {
  try {
    // Before MPI starts threads, so that they inherit the blocked signals.
    std::optional<hew::train::StopSignal> stop_signal;
    if (argc > 1 && std::string_view(argv[1]) == "train")
      stop_signal.emplace();
    const std::unique_ptr<hew::dist::Communicator> comm = hew::dist::make_communicator();
    return hew::run(argc, argv,
                    {.comm = *comm, .stop_signal = stop_signal ? &*stop_signal : nullptr});
  } catch (const std::exception& error) {
    fmt::print(stderr, "hew: {}\n", error.what());
    return 1;
  }
}
