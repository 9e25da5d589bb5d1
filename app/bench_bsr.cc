#include "app/bench_bsr.h"

#include <fmt/format.h>
#include <omp.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>

#include "app/machine_rate.h"
#include "core/device.h"
#include "core/error.h"
#include "core/rng.h"
#include "kernels/bsr.h"
#include "kernels/linear.h"
#include "sparsity/pattern.h"

namespace hew {
namespace {

constexpr std::size_t kProducts = 3;
constexpr std::array<const char*, kProducts> kProductNames{"forward", "input_gradient",
                                                           "weight_gradient"};
constexpr std::uint64_t kDataKey = 1;
constexpr std::uint64_t kPatternKey = 2;

using Seconds = std::array<double, kProducts>;

template <class T>
void fill_uniform(Tensor& t, std::uint64_t stream) {
#pragma omp parallel for
  for (std::int64_t i = 0; i < t.numel(); ++i) {
    t.data<T>()[i] =
        static_cast<T>(uniform(kDataKey, stream, static_cast<std::uint64_t>(i)) - 0.5F);
  }
}

Tensor random_values(const Shape& shape, DType dtype, const Stream& cpu, std::uint64_t stream) {
  Tensor t = Tensor::empty(shape, dtype, cpu);
  dtype == DType::kFloat32 ? fill_uniform<float>(t, stream) : fill_uniform<double>(t, stream);
  return t;
}

// The dense operands [M, K], [N, K], [M, N] and the results, shared by all blocks and sparsities.
struct Operands {
  Tensor x, w, dy;
  Tensor y, dx, dw;

  Operands(const BenchBsrOptions& o, DType dtype, const Stream& cpu)
      : x(random_values({o.tokens, o.in_features}, dtype, cpu, 0)),
        w(random_values({o.out_features, o.in_features}, dtype, cpu, 1)),
        dy(random_values({o.tokens, o.out_features}, dtype, cpu, 2)),
        y(Tensor::zeros(dy.shape(), dtype, cpu)),
        dx(Tensor::zeros(x.shape(), dtype, cpu)),
        dw(Tensor::zeros(w.shape(), dtype, cpu)) {}
};

sparsity::BsrPattern random_pattern(const sparsity::BlockGrid& grid, double sparsity,
                                    const Stream& cpu) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(grid.blocks()));
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [](std::int64_t a, std::int64_t b) {
    const auto draw = [](std::int64_t i) {
      return philox(kPatternKey, 0, static_cast<std::uint64_t>(i));
    };
    return draw(a) < draw(b);
  });
  order.resize(static_cast<std::size_t>(sparsity::live_blocks(grid.blocks(), sparsity)));
  sparsity::MaskBytes mask(static_cast<std::size_t>(grid.blocks()), 0);
  for (const std::int64_t block : order) mask[static_cast<std::size_t>(block)] = 1;
  return {grid, mask, cpu};
}

double seconds_of(const std::function<void()>& body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double median(std::vector<double> times) {
  const auto middle = times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2);
  std::nth_element(times.begin(), middle, times.end());
  return *middle;
}

struct Timing {
  Seconds sparse{};
  Seconds dense{};
};

// One warm-up, then `repeats` rounds of all products, sparse and dense in turn: each finds the
// caches as the other left them, and a disturbance of the machine hits both.
Timing time_products(Operands& t, const sparsity::BsrPattern& pattern, int repeats) {
  const Stream& cpu = t.x.stream();
  const std::int64_t b = pattern.grid().block;
  const kernels::BsrIndex index = pattern.index();
  const Tensor values = random_values({pattern.nnzb(), b, b}, t.x.dtype(), cpu, 3);
  Tensor dvalues = Tensor::zeros(values.shape(), t.x.dtype(), cpu);
  const std::array<std::array<std::function<void()>, 2>, kProducts> bodies{
      {{[&] { kernels::bsr_forward({.x = t.x, .values = values, .index = index, .y = t.y}, cpu); },
        [&] { kernels::linear_forward({.x = t.x, .w = t.w, .y = t.y}, cpu); }},
       {[&] { kernels::bsr_input_gradient(t.dy, values, index, t.dx, cpu); },
        [&] { kernels::linear_input_gradient({.dy = t.dy, .w = t.w, .dx = t.dx}, cpu); }},
       {[&] {
          kernels::bsr_weight_gradient({.dy = t.dy, .x = t.x, .index = index, .dvalues = dvalues},
                                       cpu);
        },
        [&] { kernels::linear_weight_gradient({.dy = t.dy, .x = t.x, .dw = t.dw}, cpu); }}}};
  std::array<std::array<std::vector<double>, 2>, kProducts> times;
  for (int round = 0; round <= repeats; ++round) {
    for (std::size_t product = 0; product < kProducts; ++product) {
      for (std::size_t side = 0; side < 2; ++side) {
        const double seconds = seconds_of(bodies[product][side]);
        if (round > 0)
          times[product][side].push_back(seconds);
      }
    }
  }
  Timing timing;
  for (std::size_t product = 0; product < kProducts; ++product) {
    timing.sparse[product] = median(times[product][0]);
    timing.dense[product] = median(times[product][1]);
  }
  return timing;
}

struct Line {
  std::string product;
  std::int64_t block = 0;
  double sparsity = 0;
  double sparse_seconds = 0;
  double dense_seconds = 0;
  double sparse_flops = 0;
  double dense_flops = 0;
  double roofline_seconds = 0;
};

void print_json(const BenchBsrOptions& o, const MachineRate& rate, const Line& line,
                const std::function<void(const std::string&)>& print) {
  const nlohmann::ordered_json object{
      {"product", line.product},
      {"M", o.tokens},
      {"N", o.out_features},
      {"K", o.in_features},
      {"block", line.block},
      {"sparsity", line.sparsity},
      {"dtype", o.dtype},
      {"ms", line.sparse_seconds * 1e3},
      {"dense_ms", line.dense_seconds * 1e3},
      {"speedup", line.dense_seconds / line.sparse_seconds},
      {"roofline", line.roofline_seconds / line.sparse_seconds},
      {"gflops", line.sparse_flops / line.sparse_seconds * 1e-9},
      {"dense_gflops", line.dense_flops / line.dense_seconds * 1e-9},
      {"fma_gflops", rate.multiply_add_flops * 1e-9},
      {"copy_gbs", rate.copy_bytes * 1e-9},
      {"threads", o.threads}};
  print(object.dump());
}

void print_row(const Line& line, const MachineRate& rate,
               const std::function<void(const std::string&)>& print) {
  const double gflops = line.sparse_flops / line.sparse_seconds * 1e-9;
  const double dense_gflops = line.dense_flops / line.dense_seconds * 1e-9;
  print(fmt::format(
      "{:<16}{:>6}{:>10.4f}{:>10.2f}{:>10.2f}{:>8.2f}x{:>10.0f}%{:>9.1f}{:>9.1f}{:>7.0f}%",
      line.product, line.block, line.sparsity, line.sparse_seconds * 1e3, line.dense_seconds * 1e3,
      line.dense_seconds / line.sparse_seconds, 100 * line.roofline_seconds / line.sparse_seconds,
      gflops, dense_gflops, 1e11 * dense_gflops / rate.multiply_add_flops));
}

// The three products, then their sum.
std::vector<Line> lines_of(const BenchBsrOptions& o, const Operands& t,
                           const sparsity::BsrPattern& pattern, const Timing& timing,
                           const MachineRate& rate) {
  const std::int64_t b = pattern.grid().block;
  const std::int64_t live = pattern.nnzb() * b * b;
  const auto live_flops = 2.0 * static_cast<double>(o.tokens) * static_cast<double>(live);
  const auto dense_flops = 2.0 * static_cast<double>(o.tokens) * static_cast<double>(t.w.numel());
  // Each product reads two and writes one of: x, dy or y, the live blocks.
  const auto bytes =
      static_cast<double>(t.x.nbytes() + t.dy.nbytes() + live * size_of(t.x.dtype()));
  const double roofline = std::max(live_flops / rate.multiply_add_flops, bytes / rate.copy_bytes);
  Line sum{.product = "all three", .block = b, .sparsity = pattern.sparsity()};
  std::vector<Line> lines;
  for (std::size_t product = 0; product < kProducts; ++product) {
    lines.push_back({.product = kProductNames[product],
                     .block = b,
                     .sparsity = pattern.sparsity(),
                     .sparse_seconds = timing.sparse[product],
                     .dense_seconds = timing.dense[product],
                     .sparse_flops = live_flops,
                     .dense_flops = dense_flops,
                     .roofline_seconds = roofline});
    sum.sparse_seconds += timing.sparse[product];
    sum.dense_seconds += timing.dense[product];
    sum.sparse_flops += live_flops;
    sum.dense_flops += dense_flops;
    sum.roofline_seconds += roofline;
  }
  lines.push_back(sum);
  return lines;
}

void check(const BenchBsrOptions& o) {
  require<ConfigError>(parse_device(o.device).is_cpu(), "--device {}: this build has only cpu",
                       o.device);
  for (const std::int64_t size : {o.tokens, o.out_features, o.in_features}) {
    require<ConfigError>(size >= 1, "--tokens, --out-features, --in-features: {} is not positive",
                         size);
  }
  for (const std::int64_t b : o.blocks) {
    require<ConfigError>(b >= 8 && b <= 128 && b % 8 == 0,
                         "--block {}: expected a multiple of 8 up to 128", b);
  }
  for (const double s : o.sparsities) {
    require<ConfigError>(s >= 0 && s <= 1, "--sparsity {}: expected 0 to 1", s);
  }
  require<ConfigError>(o.repeats >= 1, "--repeats {}: expected 1 or more", o.repeats);
  require<ConfigError>(o.threads >= 0, "--threads {}: expected 1 or more", o.threads);
}

}  // namespace

void bench_bsr(const BenchBsrOptions& options,
               const std::function<void(const std::string&)>& print) {
  check(options);
  const DType dtype = parse_dtype(options.dtype);
  BenchBsrOptions o = options;
  if (o.threads == 0)
    o.threads = omp_get_max_threads();
  omp_set_num_threads(o.threads);
  const MachineRate rate = measure_machine(dtype, o.threads);
  const Stream cpu = make_cpu_stream();
  Operands operands(o, dtype, cpu);
  if (!o.json) {
    print(fmt::format(
        "M {} · N {} · K {} · {} · {} threads · multiply-add {:.1f} GFLOP/s · copy {:.1f} GB/s",
        o.tokens, o.out_features, o.in_features, name_of(dtype), o.threads,
        rate.multiply_add_flops * 1e-9, rate.copy_bytes * 1e-9));
    print(fmt::format("{:<16}{:>6}{:>10}{:>10}{:>10}{:>9}{:>11}{:>9}{:>9}{:>8}", "product", "block",
                      "sparsity", "ms", "dense ms", "speed-up", "roofline", "GFLOP/s", "dense",
                      "of peak"));
  }
  for (const std::int64_t b : o.blocks) {
    for (const double wanted : o.sparsities) {
      const auto pattern =
          random_pattern({.rows = o.out_features, .cols = o.in_features, .block = b}, wanted, cpu);
      const Timing timing = time_products(operands, pattern, o.repeats);
      for (const Line& line : lines_of(o, operands, pattern, timing, rate)) {
        if (!o.json) {
          print_row(line, rate, print);
        } else if (line.product != "all three") {
          print_json(o, rate, line, print);
        }
      }
    }
  }
}

void add_bench_bsr(CLI::App& bench) {
  CLI::App* command =
      bench.add_subcommand("bsr", "Time the block-sparse products against the dense one");
  const auto o = std::make_shared<BenchBsrOptions>();
  command->add_option("--device", o->device, "Where to run")->capture_default_str();
  command->add_option("--tokens", o->tokens, "M")->capture_default_str();
  command->add_option("--out-features", o->out_features, "N")->capture_default_str();
  command->add_option("--in-features", o->in_features, "K")->capture_default_str();
  command->add_option("--block", o->blocks, "Block sizes")->delimiter(',')->capture_default_str();
  command->add_option("--sparsity", o->sparsities, "Shares of dead blocks")
      ->delimiter(',')
      ->capture_default_str();
  command->add_option("--dtype", o->dtype, "fp32 or fp64")->capture_default_str();
  command->add_option("--threads", o->threads, "0: as many as OpenMP would start")
      ->capture_default_str();
  command->add_option("--repeats", o->repeats, "Timed rounds; the median counts")
      ->capture_default_str();
  command->add_flag("--json", o->json, "One object a line");
  command->callback([o] {
    bench_bsr(*o, [](const std::string& line) {
      fmt::print("{}\n", line);
      std::fflush(stdout);
    });
  });
}

}  // namespace hew
