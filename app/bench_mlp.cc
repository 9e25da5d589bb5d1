#include "app/bench_mlp.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>

#include "app/bench_bsr_products.h"
#include "app/bench_bsr_weights.h"
#include "app/bench_random.h"
#include "app/bench_turns.h"
#include "core/device.h"
#include "core/error.h"
#include "kernels/bsr_mlp.h"
#include "kernels/bsr_routes.h"
#include "kernels/elementwise.h"
#include "kernels/linear.h"

namespace hew {
namespace {

using kernels::BsrFusing;

constexpr BenchTurns kCpuTurns{.warm_ups = 1, .repeats = 5};
constexpr BenchTurns kGpuTurns{.warm_ups = 3, .repeats = 20};
// The block-sparse ways, and what decides on them.
constexpr std::array kWays{BsrFusing::kAlways, BsrFusing::kNever, BsrFusing::kAuto};

void check(const BenchMlpOptions& o) {
  require<ConfigError>(parse_device(o.device).is_cpu() || cuda_device_count() > 0,
                       "--device {}: this build or machine has only cpu", o.device);
  for (const std::int64_t size : {o.tokens, o.width, o.hidden})
    require<ConfigError>(size >= 1, "--tokens, --width, --hidden: {} is not positive", size);
  for (const std::int64_t b : o.blocks) {
    require<ConfigError>(b >= 8 && b <= 128 && b % 8 == 0,
                         "--blocks {}: expected multiples of 8 up to 128", b);
  }
  for (const double s : o.sparsities)
    require<ConfigError>(s >= 0 && s < 1, "--sparsity {}: expected 0 to below 1", s);
  require<ConfigError>(o.repeats.value_or(1) >= 1, "--repeats {}: expected 1 or more", *o.repeats);
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
        print_(print),
        stream_(make_stream(parse_device(options.device))),
        dtype_(stream_.device.is_cpu() ? DType::kFloat32 : DType::kBFloat16),
        activation_(kernels::parse_activation(options.activation)),
        random_(stream_),
        x_(random_.normal({o_.tokens, o_.width}, dtype_)),
        y_(Tensor::empty(x_.shape(), dtype_, stream_)),
        dense_y_(Tensor::empty(x_.shape(), dtype_, stream_)),
        dense_hidden_(Tensor::empty({o_.tokens, o_.hidden}, dtype_, stream_)) {}

  void run() {
    if (!o_.json) {
      print_(fmt::format("M={} {} → {} → {} · {} · {}", o_.tokens, o_.width, o_.hidden, o_.width,
                         o_.activation, name_of(dtype_)));
      print_(fmt::format("{:>6}{:>10}{:>11}{:>13}{:>10}{:>10}{:>16}{:>13}{:>10}", "block",
                         "sparsity", "fused ms", "products ms", "auto ms", "dense ms",
                         "products/fused", "dense/auto", "error"));
    }
    double worst = 0;
    for (const std::int64_t block : o_.blocks) {
      for (const double sparsity : o_.sparsities) {
        const Times times = time(block, sparsity);
        worst = times.error <= worst ? worst : times.error;
        report(block, sparsity, times);
      }
    }
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
    BenchTurns turns = stream_.device.is_cpu() ? kCpuTurns : kGpuTurns;
    turns.repeats = o_.repeats.value_or(static_cast<int>(turns.repeats));
    const std::vector<double> seconds = median_seconds(bodies, turns, stream_);
    std::copy_n(seconds.begin(), kWays.size(), times.seconds.begin());
    times.dense = seconds.back();
    return times;
  }

  void report(std::int64_t block, double sparsity, const Times& times) const {
    const auto [fused, products, chosen] = times.seconds;
    if (o_.json) {
      const nlohmann::ordered_json object{
          {"device", o_.device},    {"tokens", o_.tokens},          {"width", o_.width},
          {"hidden", o_.hidden},    {"activation", o_.activation},  {"block", block},
          {"sparsity", sparsity},   {"fused_seconds", fused},       {"products_seconds", products},
          {"auto_seconds", chosen}, {"dense_seconds", times.dense}, {"error", times.error}};
      return print_(object.dump());
    }
    print_(
        fmt::format("{:>6}{:>10.2f}{:>11.4f}{:>13.4f}{:>10.4f}{:>10.4f}{:>16.3f}{:>13.3f}{:>10.1e}",
                    block, sparsity, fused * 1e3, products * 1e3, chosen * 1e3, times.dense * 1e3,
                    products / fused, times.dense / chosen, times.error));
  }

  const BenchMlpOptions& o_;
  const std::function<void(const std::string&)>& print_;
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
  Bench(options, print).run();
}

void add_bench_mlp(CLI::App& bench) {
  CLI::App* command =
      bench.add_subcommand("mlp", "Time a block-sparse MLP at inference against the dense one");
  const auto o = std::make_shared<BenchMlpOptions>();
  command->add_option("--device", o->device, "Where to run")->capture_default_str();
  command->add_option("--tokens", o->tokens, "M")->capture_default_str();
  command->add_option("--width", o->width, "Features of input and output")->capture_default_str();
  command->add_option("--hidden", o->hidden, "Features in between")->capture_default_str();
  command->add_option("--block,--blocks", o->blocks, "Block sizes")
      ->delimiter(',')
      ->capture_default_str();
  command->add_option("--sparsity", o->sparsities, "Shares of dead blocks")
      ->delimiter(',')
      ->capture_default_str();
  command->add_option("--activation", o->activation, "none, relu, gelu, gelu_tanh or silu")
      ->capture_default_str();
  command->add_option("--repeats", o->repeats,
                      "Timed rounds; the median counts. 5 on a CPU, 20 on a GPU");
  command->add_flag("--json", o->json, "One object a line");
  command->callback([o] {
    bench_mlp(*o, [](const std::string& line) {
      fmt::print("{}\n", line);
      std::fflush(stdout);
    });
  });
}

}  // namespace hew
