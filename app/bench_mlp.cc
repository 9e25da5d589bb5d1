#include "app/bench_mlp.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <memory>

#include "app/bench_bsr_products.h"
#include "app/bench_bsr_weights.h"
#include "app/bench_options.h"
#include "app/bench_random.h"
#include "app/bench_report.h"
#include "core/error.h"
#include "kernels/bsr_mlp.h"
#include "kernels/bsr_routes.h"
#include "kernels/elementwise.h"
#include "kernels/linear.h"

namespace hew {
namespace {

using kernels::BsrFusing;

// The block-sparse ways, and what decides on them.
constexpr std::array kWays{BsrFusing::kAlways, BsrFusing::kNever, BsrFusing::kAuto};

void check(const BenchMlpOptions& o) {
  check_run_options(o);
  for (const std::int64_t size : {o.tokens, o.width, o.hidden}) {
    require<ConfigError>(size >= 1 && size <= kMostBenchSize,
                         "--tokens, --width, --hidden: got {}, expected 1 to {}", size,
                         kMostBenchSize);
  }
  check_blocks(o.blocks);
  check_sparsities(o.sparsities);
}

// A weight by its blocks and whole.
struct Weight {
  sparsity::PatternPtr pattern;
  Tensor values;
  Tensor dense;
  Tensor bias;

  Weight(const sparsity::BlockGrid& grid, double sparsity, DType dtype, RandomTensors& random,
         const Stream& stream)
      : pattern(std::make_shared<const sparsity::BsrPattern>(
            draw_pattern(BsrPatternKind::kRandom, grid, sparsity, stream))),
        bias(random.normal({grid.rows}, dtype, 0.5)) {
    const double live = (1 - pattern->sparsity()) * static_cast<double>(grid.cols);
    values = random.normal({pattern->nnzb(), grid.block, grid.block}, dtype,
                           1 / std::sqrt(std::max(live, 1.0)));
    dense = sparsity::scatter(values, *pattern);
    // Products may trust the padding of ragged blocks to be zero.
    values = sparsity::gather(dense, *pattern);
  }
};

struct Times {
  std::array<double, kWays.size()> seconds{};
  double dense = 0;
  double error = 0;  // the greatest of all ways; NaN if any is
};

class Bench {
 public:
  Bench(const BenchMlpOptions& options, const std::function<void(const std::string&)>& print)
      : o_(options),
        report_(print, options.json, options.output),
        stream_(make_stream(parse_device(options.device))),
        dtype_(stream_.device.is_cpu() ? DType::kFloat32 : DType::kBFloat16),
        activation_(kernels::parse_activation(options.activation)),
        random_(stream_),
        x_(random_.normal({o_.tokens, o_.width}, dtype_)),
        y_(Tensor::empty(x_.shape(), dtype_, stream_)),
        dense_y_(Tensor::empty(x_.shape(), dtype_, stream_)),
        dense_hidden_(Tensor::empty({o_.tokens, o_.hidden}, dtype_, stream_)) {}

  void run() {
    report_.head(fmt::format("M={} {} → {} → {} · {} · {} · {}", o_.tokens, o_.width, o_.hidden,
                             o_.width, o_.activation, name_of(dtype_),
                             hardware_words(stream_.device)));
    report_.head(fmt::format("{:>6}{:>10}{:>11}{:>13}{:>10}{:>10}{:>16}{:>13}{:>10}", "block",
                             "sparsity", "fused ms", "products ms", "auto ms", "dense ms",
                             "products/fused", "dense/auto", "error"));
    double worst = 0;
    for (const std::int64_t block : o_.blocks) {
      for (const double sparsity : o_.sparsities) {
        const Times times = time(block, sparsity);
        worst = times.error <= worst ? worst : times.error;
        report(block, sparsity, times);
      }
    }
    report_.finish();
    require<Error>(worst <= kMaxBsrError, "bench mlp: a result differs by {:.2g}", worst);
  }

 private:
  std::function<void()> sparse_body(const Weight& up, const Weight& down, BsrFusing way) {
    return [&, way] {
      stream_.state->get<kernels::BsrSettings>(stream_).fusing = way;
      kernels::bsr_mlp_forward({.x = x_,
                                .up_values = up.values,
                                .up = up.pattern->index(),
                                .up_bias = up.bias,
                                .activation = activation_,
                                .down_values = down.values,
                                .down = down.pattern->index(),
                                .down_bias = down.bias,
                                .schedule = up.pattern->mlp_schedule(down.pattern),
                                .y = y_},
                               stream_);
    };
  }

  void dense_body(const Weight& up, const Weight& down) {
    kernels::linear_forward(
        {.x = x_, .w = up.dense, .bias = up.bias, .activation = activation_, .y = dense_hidden_},
        stream_);
    kernels::linear_forward({.x = dense_hidden_, .w = down.dense, .bias = down.bias, .y = dense_y_},
                            stream_);
  }

  Times time(std::int64_t block, double sparsity) {
    const Weight up({.rows = o_.hidden, .cols = o_.width, .block = block}, sparsity, dtype_,
                    random_, stream_);
    const Weight down({.rows = o_.width, .cols = o_.hidden, .block = block}, sparsity, dtype_,
                      random_, stream_);
    Times times;
    std::vector<std::function<void()>> bodies;
    for (const BsrFusing way : kWays) {
      bodies.push_back(sparse_body(up, down, way));
      kernels::fill(std::numeric_limits<double>::quiet_NaN(), y_, stream_);
      bodies.back()();
      dense_body(up, down);
      const double error = relative_error(y_, dense_y_);
      times.error = error <= times.error ? times.error : error;  // a NaN stays
    }
    bodies.push_back([&] { dense_body(up, down); });
    const std::vector<double> seconds =
        median_seconds(bodies, turns_for(stream_.device, o_.repeats), stream_);
    std::copy_n(seconds.begin(), kWays.size(), times.seconds.begin());
    times.dense = seconds.back();
    return times;
  }

  void report(std::int64_t block, double sparsity, const Times& times) {
    const auto [fused, products, chosen] = times.seconds;
    report_.row(
        {{"device", o_.device},
         {"tokens", o_.tokens},
         {"width", o_.width},
         {"hidden", o_.hidden},
         {"activation", o_.activation},
         {"block", block},
         {"sparsity", sparsity},
         {"fused_seconds", fused},
         {"products_seconds", products},
         {"auto_seconds", chosen},
         {"dense_seconds", times.dense},
         {"error", times.error}},
        fmt::format("{:>6}{:>10.2f}{:>11.4f}{:>13.4f}{:>10.4f}{:>10.4f}{:>16.3f}{:>13.3f}{:>10.1e}",
                    block, sparsity, fused * 1e3, products * 1e3, chosen * 1e3, times.dense * 1e3,
                    products / fused, times.dense / chosen, times.error));
  }

  const BenchMlpOptions& o_;
  BenchReport report_;  // refuses before anything is timed
  Stream stream_;
  DType dtype_;
  kernels::Activation activation_;
  RandomTensors random_;
  Tensor x_;
  Tensor y_;
  Tensor dense_y_;
  Tensor dense_hidden_;
};

}  // namespace

void bench_mlp(const BenchMlpOptions& options,
               const std::function<void(const std::string&)>& print) {
  check(options);
  use_threads(options.threads);
  Bench(options, print).run();
}

void add_bench_mlp(CLI::App& bench) {
  CLI::App* command =
      bench.add_subcommand("mlp", "Time a block-sparse MLP at inference against the dense one");
  const auto o = std::make_shared<BenchMlpOptions>();
  add_run_options(*command, *o);
  command->add_option("--tokens", o->tokens, "M")->capture_default_str();
  command->add_option("--width", o->width, "Features of input and output")->capture_default_str();
  command->add_option("--hidden", o->hidden, "Features in between")->capture_default_str();
  add_block_options(*command, o->blocks, o->sparsities);
  command->add_option("--activation", o->activation, "none, relu, gelu, gelu_tanh or silu")
      ->capture_default_str();
  command->callback([o] { bench_mlp(*o, print_now); });
}

}  // namespace hew
