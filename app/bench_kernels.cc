#include "app/bench_kernels.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <memory>
#include <string_view>

#include "app/bench_kernels_groups.h"
#include "core/device.h"
#include "core/error.h"

namespace hew {
namespace {

struct Group {
  std::string_view name;
  void (*run)(KernelTimer& timer);
};

constexpr std::array kGroups{Group{"norm", bench_norm},
                             Group{"activation", bench_activation},
                             Group{"swiglu", bench_swiglu},
                             Group{"rotary", bench_rotary},
                             Group{"embedding", bench_embedding},
                             Group{"cross_entropy", bench_cross_entropy},
                             Group{"adamw", bench_adamw},
                             Group{"global_norm", bench_global_norm},
                             Group{"elementwise", bench_elementwise},
                             Group{"blocks", bench_blocks},
                             Group{"dropout", bench_dropout},
                             Group{"products", bench_products},
                             Group{"attention", bench_attention}};

std::string group_names() {
  std::vector<std::string_view> names;
  names.reserve(kGroups.size());
  for (const Group& group : kGroups) names.push_back(group.name);
  return fmt::format("{}", fmt::join(names, ", "));
}

void check(const BenchKernelsOptions& o) {
  for (const std::string& name : o.only) {
    const bool known = std::any_of(kGroups.begin(), kGroups.end(),
                                   [&](const Group& group) { return group.name == name; });
    require<ConfigError>(known, "--only {}: expected some of {}", name, group_names());
  }
  require<ConfigError>(o.dtype == "tf32" || is_floating(parse_dtype(o.dtype)),
                       "--dtype {}: expected bf16, tf32, fp32 or fp64", o.dtype);
  require<ConfigError>(o.repeat >= 1, "--repeat {}: expected 1 or more", o.repeat);
  require<ConfigError>(o.scale > 0 && o.scale <= 1, "--scale {}: expected more than 0, at most 1",
                       o.scale);
  require<ConfigError>(parse_device(o.device).is_cuda(), "--device {}: this benchmark needs a GPU",
                       o.device);
}

}  // namespace

void bench_kernels(const BenchKernelsOptions& options,
                   const std::function<void(const std::string&)>& print) {
  check(options);
  KernelTimer timer(options, print);
  for (const Group& group : kGroups) {
    if (options.only.empty() ||
        std::find(options.only.begin(), options.only.end(), group.name) != options.only.end())
      group.run(timer);
  }
}

void add_bench_kernels(CLI::App& bench) {
  CLI::App* command = bench.add_subcommand("kernels", "Time the kernels of a GPU");
  const auto o = std::make_shared<BenchKernelsOptions>();
  command->add_option("--device", o->device, "Where to run")->capture_default_str();
  command->add_option("--only", o->only, "Of " + group_names())->delimiter(',');
  command->add_option("--dtype", o->dtype, "bf16, tf32, fp32 or fp64")->capture_default_str();
  command->add_option("--repeat", o->repeat, "Timed calls; the median counts")
      ->capture_default_str();
  command->add_option("--scale", o->scale, "Share of the usual rows, for a quick look")
      ->capture_default_str();
  command->callback([o] {
    bench_kernels(*o, [](const std::string& line) {
      fmt::print("{}\n", line);
      std::fflush(stdout);
    });
  });
}

}  // namespace hew
