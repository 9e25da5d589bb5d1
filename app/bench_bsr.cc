#include "app/bench_bsr.h"

#include <fmt/format.h>
#include <omp.h>

#include <algorithm>
#include <array>
#include <memory>

#include "app/bench_bsr_products.h"
#include "app/bench_bsr_table.h"
#include "app/bench_options.h"
#include "app/machine_rate.h"
#include "core/cuda_device.h"
#include "core/error.h"
#include "kernels/bsr_routes.h"
#include "kernels/product_settings.h"
#include "train/memory_check.h"

namespace hew {
namespace {

using kernels::hopper::BsrPacking;

// What one H100 SXM of 700 W sustains: cuBLAS on 8192³, where it reaches 756 to 798 TFLOP/s in bf16
// and the rates of tf32 and float32 stand to it as in the data sheet; and a copy on the device,
// read and written bytes both counted.
constexpr double kBFloat16Flops = 780e12;
constexpr double kTf32Flops = 390e12;
constexpr double kFloat32Flops = 52e12;
constexpr double kDeviceBytes = 3.0e12;

constexpr std::int64_t kTokens = 4096;
void check_names(const BenchBsrOptions& o) {
  for (const std::string& product : o.products) {
    require<ConfigError>(parse_named<BsrProduct>(product).has_value(),
                         "--products {}: expected some of forward, input_gradient, weight_gradient",
                         product);
  }
  require<ConfigError>(parse_named<BsrPatternKind>(o.pattern).has_value(),
                       "--pattern {}: expected random, long-row or long-column", o.pattern);
  require<ConfigError>(o.packing == "auto" || parse_named<BsrPacking>(o.packing).has_value(),
                       "--packing {}: expected auto, none, values, input, both or copied",
                       o.packing);
  require<ConfigError>(o.tall == "auto" || o.tall == "yes" || o.tall == "no",
                       "--tall {}: expected auto, yes or no", o.tall);
  const bool cpu = parse_device(o.device).is_cpu();
  const std::vector<std::string> dtypes =
      cpu ? std::vector<std::string>{"", "fp32", "fp64", "float32", "float64"}
          : std::vector<std::string>{"", "bf16", "tf32", "fp32", "fp64"};
  require<ConfigError>(std::find(dtypes.begin(), dtypes.end(), o.dtype) != dtypes.end(),
                       "--dtype {}: expected {}", o.dtype,
                       cpu ? "fp32 or fp64 on a CPU" : "bf16, tf32, fp32 or fp64");
}

void check(const BenchBsrOptions& o) {
  check_names(o);
  check_run_options(o);
  for (const std::int64_t size : {o.out_features, o.in_features}) {
    require<ConfigError>(size >= 1, "--out-features, --in-features: {} is not positive", size);
  }
  for (const std::int64_t tokens : o.tokens)
    require<ConfigError>(tokens >= 1, "--tokens {}: expected 1 or more", tokens);
  check_blocks(o.blocks);
  for (const double s : o.sparsities) {
    require<ConfigError>(s >= 0 && s <= 1, "--sparsity {}: expected 0 to 1", s);
  }
}

std::vector<BsrShape> shapes_of(const BenchBsrOptions& o) {
  const std::vector<BsrShape> named =
      o.shapes.empty()
          ? std::vector<BsrShape>{{.m = kTokens, .n = o.out_features, .k = o.in_features}}
          : bsr_shapes_of(o.shapes);
  std::vector<BsrShape> shapes;
  for (BsrShape shape : named) {
    if (o.tokens.empty())
      shapes.push_back(shape);
    for (const std::int64_t tokens : o.tokens) {
      shape.m = tokens;
      shapes.push_back(shape);
    }
  }
  return shapes;
}

void check_memory(const BenchBsrOptions& o) {
  dist::LocalCommunicator alone;
  const auto memory = train::device_memory(parse_device(o.device), alone);
  if (!memory)
    return;
  constexpr double kSmallest = 2;  // bytes of an element of any type
  for (const BsrShape& s : shapes_of(o)) {
    const auto [m, n, k] =
        std::array{static_cast<double>(s.m), static_cast<double>(s.n), static_cast<double>(s.k)};
    const auto excess = train::excess(kSmallest * (m * n + m * k + n * k), *memory);
    require<ConfigError>(!excess, "bench bsr: matrices of {} tokens, {} × {}, exceed {}", s.m, s.n,
                         s.k, excess.value_or(""));
  }
}

// The options with nothing left open.
BenchBsrOptions completed(BenchBsrOptions o) {
  const bool cpu = parse_device(o.device).is_cpu();
  if (o.dtype.empty())
    o.dtype = cpu ? "fp32" : "bf16";
  if (o.threads == 0)
    o.threads = omp_get_max_threads();
  if (o.products.empty()) {
    for (const auto& entry : EnumNames<BsrProduct>::kTable) o.products.emplace_back(entry.second);
  }
  return o;
}

BsrCeilings ceilings_of(const BenchBsrOptions& o, DType dtype) {
  const Device device = parse_device(o.device);
  if (device.is_cpu()) {
    const MachineRate rate = measure_machine(dtype, o.threads);
    return {
        .flops = rate.multiply_add_flops,
        .bytes = rate.copy_bytes,
        .words = fmt::format("{} threads · multiply-add {:.1f} GFLOP/s · copy {:.1f} GB/s",
                             o.threads, rate.multiply_add_flops * 1e-9, rate.copy_bytes * 1e-9)};
  }
  const double flops = o.dtype == "bf16"   ? kBFloat16Flops
                       : o.dtype == "tf32" ? kTf32Flops
                                           : kFloat32Flops;
  return {.flops = flops,
          .bytes = kDeviceBytes,
          .words = fmt::format("{} · roofline of {:.0f} TFLOP/s and {:.1f} TB/s",
                               cuda::describe(device.index), flops * 1e-12, kDeviceBytes * 1e-12)};
}

class Bench {
 public:
  Bench(const BenchBsrOptions& options, const BsrTable::Print& print)
      : o_(options),
        dtype_(o_.dtype == "tf32" ? DType::kFloat32 : parse_dtype(o_.dtype)),
        stream_(make_stream(parse_device(o_.device))),
        random_(stream_),
        table_(o_, ceilings_of(o_, dtype_), print) {
    stream_.state->get<kernels::ProductSettings>(stream_).tf32 = o_.dtype == "tf32";
    stream_.state->get<kernels::BsrSettings>(stream_).folding =
        o_.dispatch ? kernels::BsrFolding::kAuto : kernels::BsrFolding::kOwn;
    stream_.state->get<kernels::BsrSettings>(stream_).packing = parse_named<BsrPacking>(o_.packing);
    if (o_.tall != "auto")
      stream_.state->get<kernels::BsrSettings>(stream_).tall = o_.tall == "yes";
  }

  void run() {
    for (const BsrShape& shape : shapes_of(o_)) time_shape(shape);
    table_.finish();
  }

 private:
  void time_shape(const BsrShape& shape) {
    table_.begin_shape(shape);
    const BsrOperands operands(shape, dtype_, random_);
    for (const std::int64_t b : o_.blocks) {
      if (!shape.name.empty() && (shape.n % b != 0 || shape.k % b != 0)) {
        table_.note(fmt::format("block {} does not divide {} × {}: left out", b, shape.n, shape.k));
        continue;
      }
      for (const double sparsity : o_.sparsities) time_weight(shape, operands, b, sparsity);
    }
  }

  void time_weight(const BsrShape& shape, const BsrOperands& operands, std::int64_t block,
                   double sparsity) {
    const BsrWeight weight(*parse_named<BsrPatternKind>(o_.pattern),
                           {.rows = shape.n, .cols = shape.k, .block = block}, sparsity, random_,
                           operands);
    const BenchTurns turns = turns_for(stream_.device, o_.repeats);
    std::vector<BsrCell> cells;
    for (const std::string& name : o_.products) {
      const BsrProduct product = *parse_named<BsrProduct>(name);
      cells.push_back({.product = product,
                       .shape = shape,
                       .block = block,
                       .wanted_sparsity = sparsity,
                       .sparsity = weight.pattern.sparsity(),
                       .live_blocks = weight.pattern.nnzb(),
                       .work = work_of(product, shape.m, weight.pattern, dtype_),
                       .times = time_product(product, operands, weight, turns)});
    }
    std::optional<BsrLayerTimes> layer;
    if (o_.dispatch && cells.size() == EnumNames<BsrProduct>::kTable.size())
      layer = time_layer(operands, weight, turns);
    table_.add(cells, layer);
  }

  BenchBsrOptions o_;
  DType dtype_;
  Stream stream_;
  RandomTensors random_;
  BsrTable table_;
};

}  // namespace

void bench_bsr(const BenchBsrOptions& options,
               const std::function<void(const std::string&)>& print) {
  check(options);
  check_memory(options);
  const BenchBsrOptions complete = completed(options);
  use_threads(complete.threads);
  Bench(complete, print).run();
}

void add_bench_bsr(CLI::App& bench) {
  CLI::App* command =
      bench.add_subcommand("bsr", "Time the block-sparse products against the dense one");
  const auto o = std::make_shared<BenchBsrOptions>();
  add_run_options(*command, *o);
  CLI::Option* shape =
      command->add_option("--shape", o->shapes, "Known sizes by name, or all")->delimiter(',');
  command
      ->add_option("--tokens", o->tokens, "M, one or several, in place of a shape's own; else 4096")
      ->delimiter(',');
  command->add_option("--out-features", o->out_features, "N")
      ->capture_default_str()
      ->excludes(shape);
  command->add_option("--in-features", o->in_features, "K")->capture_default_str()->excludes(shape);
  add_block_options(*command, o->blocks, o->sparsities);
  command->add_option("--products", o->products, "Of forward, input_gradient, weight_gradient")
      ->delimiter(',');
  command->add_option("--pattern", o->pattern, "random, long-row or long-column")
      ->capture_default_str();
  command->add_option("--dtype", o->dtype,
                      "fp32 or fp64; on a GPU also bf16, the default there, and tf32");
  command
      ->add_option("--packing", o->packing,
                   "What a GPU packs first for b = 16 and 32: auto, none, values, input or both; "
                   "copied: none, and threads copy")
      ->capture_default_str();
  command
      ->add_option("--tall", o->tall,
                   "Whether a GPU's tiles have 256 rows for b = 32 in bf16: auto, yes or no")
      ->capture_default_str();
  command->add_flag("--dispatch", o->dispatch,
                    "Dense products on the folded weight where those are cheaper, as in training");
  command->callback([o] { bench_bsr(*o, print_now); });
}

}  // namespace hew
