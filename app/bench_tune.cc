#include "app/bench_tune.h"

#include <fmt/format.h>

#include <memory>
#include <optional>
#include <span>

#include "app/bench_bsr_products.h"
#include "core/device.h"
#include "core/error.h"
#include "io/atomic_file.h"
#include "kernels/bsr_routes.h"
#include "kernels/product_settings.h"
#include "train/bsr_routes_file.h"

namespace hew {
namespace {

constexpr std::int64_t kWarmUps = 3;

void check_device(const BenchTuneOptions& o) {
  require<ConfigError>(!parse_device(o.device).is_cpu(),
                       "--device {}: a CPU has one way to compute a block-sparse product, so there "
                       "is nothing to tune",
                       o.device);
  require<ConfigError>(cuda_device_count() > 0, "--device {}: this build or machine has only cpu",
                       o.device);
  require<ConfigError>(!o.output.empty(), "bench tune: expected --output FILE");
}

class Tuning {
 public:
  using Print = std::function<void(const std::string&)>;

  Tuning(const BenchTuneOptions& options, const TunedLayers& tuned, const Print& print)
      : o_(options),
        tuned_(tuned),
        print_(print),
        dtype_(tuned.dtype == "tf32" ? DType::kFloat32 : parse_dtype(tuned.dtype)),
        stream_(make_stream(parse_device(options.device))),
        random_(stream_),
        routes_(train::bsr_routes_device(stream_)) {
    stream_.state->get<kernels::ProductSettings>(stream_).tf32 = tuned.dtype == "tf32";
  }

  const kernels::BsrRoutes& run() {
    print_(fmt::format("{} · {}", routes_.device(), tuned_.dtype));
    print_(fmt::format("{:<16}{:>8}{:>8}{:>8}{:>6}{:>9}{:>10}{:>11}{:>12}{:>8}", "product", "N",
                       "K", "tokens", "block", "density", "own ms", "folded ms", "own/folded",
                       "way"));
    for (const TunedLayer& layer : tuned_.layers) time_layer(layer);
    return routes_;
  }

 private:
  void time_layer(const TunedLayer& layer) {
    const BsrShape shape{.m = layer.tokens, .n = layer.out_features, .k = layer.in_features};
    const BsrOperands operands(shape, dtype_, random_);
    for (const double density : o_.densities) {
      const BsrWeight weight(BsrPatternKind::kRandom,
                             {.rows = shape.n, .cols = shape.k, .block = layer.block}, 1 - density,
                             random_, operands);
      if (weight.pattern.nnzb() == 0)
        continue;
      for (const auto& entry : EnumNames<BsrProduct>::kTable) {
        time_one(entry.first, operands, weight);
      }
    }
  }

  void time_one(BsrProduct product, const BsrOperands& operands, const BsrWeight& weight) {
    kernels::BsrProblem problem =
        kernels::problem_of(product, operands.x, weight.pattern.index(), /*hopper=*/false);
    problem.tf32 = tuned_.dtype == "tf32";
    const BsrRouteResults results =
        time_routes(product, operands, weight, {.warm_ups = kWarmUps, .repeats = o_.repeats});
    require<Error>(
        results.error <= kMaxBsrError,
        "bench tune: {} of {} × {}, block {}, density {:.3f}: the result is off the dense "
        "product's by {}",
        name_of(product), problem.rows, problem.cols, problem.block, problem.density(),
        results.error);
    routes_.add(problem, results.times);
    const double ratio = results.times.own / results.times.folded;
    print_(fmt::format("{:<16}{:>8}{:>8}{:>8}{:>6}{:>9.4f}{:>10.4f}{:>11.4f}{:>12.3f}{:>8}",
                       name_of(product), problem.rows, problem.cols, problem.tokens, problem.block,
                       problem.density(), results.times.own * 1e3, results.times.folded * 1e3,
                       ratio, ratio > 1 ? "folded" : "own"));
  }

  const BenchTuneOptions& o_;
  const TunedLayers& tuned_;
  const Print& print_;
  DType dtype_;
  Stream stream_;
  RandomTensors random_;
  kernels::BsrRoutes routes_;
};

}  // namespace

void bench_tune(const BenchTuneOptions& options,
                const std::function<void(const std::string&)>& print) {
  check_device(options);
  const TunedLayers tuned = tuned_layers(options);
  AtomicFile file(options.output);  // refuses before anything is timed
  Tuning tuning(options, tuned, print);
  const std::string text = tuning.run().to_text();
  file.write(std::as_bytes(std::span(text)));
  file.commit();
  print(fmt::format("wrote {}", options.output));
}

void add_bench_tune(CLI::App& bench) {
  CLI::App* command = bench.add_subcommand(
      "tune", "Time a GPU's ways to compute block-sparse products, for run.bsr_routes");
  const auto o = std::make_shared<BenchTuneOptions>();
  command->add_option("overrides", o->overrides, "key=value, of the recipe");
  command->add_option("--device", o->device, "Where to run")->capture_default_str();
  command->add_option("--recipe", o->recipe, "Of its sparse layers, blocks and micro-batch");
  command->add_option("--shape", o->shapes, "Known sizes by name, or all")->delimiter(',');
  command->add_option("--tokens", o->tokens, "M, in place of the micro-batch's or the shape's");
  command->add_option("--out-features", o->out_features, "N");
  command->add_option("--in-features", o->in_features, "K");
  command->add_option("--block,--blocks", o->blocks, "Block sizes, in place of the rules'")
      ->delimiter(',');
  command->add_option("--densities", o->densities, "Shares of live blocks")
      ->delimiter(',')
      ->capture_default_str();
  command->add_option("--dtype", o->dtype, "bf16, tf32, fp32 or fp64, in place of the recipe's");
  command->add_option("--repeats", o->repeats, "Timed rounds; the median counts")
      ->capture_default_str();
  command->add_option("--output", o->output, "The table, for run.bsr_routes");
  command->callback([o] {
    bench_tune(*o, [](const std::string& line) {
      fmt::print("{}\n", line);
      std::fflush(stdout);
    });
  });
}

}  // namespace hew
