#include "app/bench_options.h"

#include <fmt/format.h>
#include <omp.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/cuda_device.h"
#include "core/error.h"
#include "core/parallel.h"
#include "core/stream.h"

namespace hew {
namespace {

constexpr BenchTurns kCpuTurns{.warm_ups = 1, .repeats = 5};
constexpr BenchTurns kGpuTurns{.warm_ups = 3, .repeats = 20};

}  // namespace

void add_run_options(CLI::App& command, const BenchRunView& options) {
  command.add_option("--device", options.device, "cpu, cuda or cuda:N")->capture_default_str();
  command.add_option("--threads", options.threads, "0: as many as OpenMP would start")
      ->capture_default_str();
  command.add_option("--repeats", options.repeats,
                     "Timed rounds; the median counts. 5 on a CPU, 20 on a GPU");
  command.add_flag("--json", options.json, "One object a line");
  command.add_option("-o,--output", options.output,
                     "A file for the objects of --json, beside the table");
}

void require_bench_output(const std::string& path) {
  if (!std::filesystem::is_regular_file(path))
    return;
  std::ifstream in(path);
  std::string line;
  if (!std::getline(in, line) && in.eof())
    return;  // empty
  const auto object = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
  require<ConfigError>(object.is_object() && object.contains("device") && !object.contains("kind"),
                       "--output {}: exists already and is no output of a bench", path);
}

void check_run_options(const std::string& device, int threads, const std::optional<int>& repeats) {
  require<ConfigError>(parse_device(device).is_cpu() || cuda_device_count() > 0,
                       "--device {}: this build or machine has only cpu", device);
  require<ConfigError>(threads >= 0 && threads <= kMostThreads, "--threads {}: expected 0 to {}",
                       threads, kMostThreads);
  require<ConfigError>(repeats.value_or(1) >= 1, "--repeats {}: expected 1 or more",
                       repeats.value_or(1));
}

void add_block_options(CLI::App& command, std::vector<std::int64_t>& blocks,
                       std::vector<double>& sparsities) {
  command.add_option("--block,--blocks", blocks, "Block sizes")
      ->delimiter(',')
      ->capture_default_str();
  command.add_option("--sparsity", sparsities, "Shares of dead blocks")
      ->delimiter(',')
      ->capture_default_str();
}

void check_blocks(std::span<const std::int64_t> blocks) {
  for (const std::int64_t b : blocks) {
    require<ConfigError>(b >= 8 && b <= 128 && b % 8 == 0,
                         "--blocks {}: expected multiples of 8 up to 128", b);
  }
}

void check_sparsities(std::span<const double> sparsities) {
  for (const double s : sparsities)
    require<ConfigError>(s >= 0 && s < 1, "--sparsity {}: expected 0 to below 1", s);
}

void use_threads(int threads) {
  if (threads > 0)
    omp_set_num_threads(threads);
}

BenchTurns turns_for(Device device, const std::optional<int>& repeats) {
  BenchTurns turns = device.is_cpu() ? kCpuTurns : kGpuTurns;
  turns.repeats = repeats.value_or(static_cast<int>(turns.repeats));
  return turns;
}

std::string hardware_words(Device device) {
  return device.is_cpu() ? fmt::format("{} threads", omp_get_max_threads())
                         : cuda::describe(device.index);
}

void print_now(const std::string& line) {
  fmt::print("{}\n", line);
  std::fflush(stdout);
}

}  // namespace hew
