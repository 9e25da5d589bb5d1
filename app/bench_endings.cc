#include "app/bench_endings.h"

#include <fmt/format.h>

#include <array>
#include <memory>
#include <utility>

#include "app/bench_bsr_products.h"
#include "app/bench_bsr_weights.h"
#include "app/bench_options.h"
#include "app/bench_random.h"
#include "app/bench_report.h"
#include "core/error.h"
#include "kernels/bsr.h"
#include "kernels/bsr_routes.h"

namespace hew {
namespace {

constexpr auto kActivation = kernels::Activation::kGeluTanh;

void check(const BenchEndingsOptions& o) {
  check_run_options(o);
  const std::int64_t tokens = o.tokens.value_or(1);
  require<ConfigError>(tokens >= 1 && tokens <= kMostBenchSize, "--tokens {}: expected 1 to {}",
                       tokens, kMostBenchSize);
  check_blocks(o.blocks);
  check_sparsities(o.sparsities);
}

// An ending, and the matrices of the output's shape that it reads and writes beside the output.
struct Ending {
  std::string name;
  int matrices = 0;
  std::function<void()> body;
};

// All endings of one layer's forward product and input gradient, the bare product first.
class Endings {
 public:
  Endings(const BsrOperands& operands, const BsrWeight& weight, RandomTensors& random)
      : t_(operands),
        weight_(weight),
        bias_(random.normal({operands.y.size(1)}, operands.y.dtype())),
        dbias_(Tensor::empty({operands.dx.size(1)}, accumulator_of(bias_.dtype()),
                             operands.dx.stream())) {
    for (Tensor& matrix : outputs_) matrix = random.normal(operands.y.shape(), bias_.dtype());
    for (Tensor& matrix : inputs_) matrix = random.normal(operands.dx.shape(), bias_.dtype());
  }

  std::vector<Ending> forward() {
    const kernels::BsrForwardArgs bare{
        .x = t_.x, .values = weight_.values, .index = weight_.pattern.index(), .y = y_};
    std::vector<Ending> out{named("none", 0, bare)};
    kernels::BsrForwardArgs args = bare;
    args.bias = bias_;
    out.push_back(named("bias", 0, args));
    args.activation = kActivation;
    args.pre = outputs_[0];
    out.push_back(named("bias, gelu, pre kept", 1, args));
    args.activation = kernels::Activation::kNone;
    args.gate = outputs_[1];
    out.push_back(named("gate, up kept", 2, args));
    args.gate = {};
    args.pre = {};
    args.residual = outputs_[1];
    out.push_back(named("bias, residual", 1, args));
    return out;
  }

  std::vector<Ending> input_gradient() {
    const kernels::BsrInputGradientArgs bare{
        .dy = t_.dy, .values = weight_.values, .index = weight_.pattern.index(), .dx = dx_};
    std::vector<Ending> out{named("none", 0, bare)};
    kernels::BsrInputGradientArgs args = bare;
    args.activation = kActivation;
    args.pre = inputs_[0];
    out.push_back(named("gelu", 1, args));
    args.dbias = dbias_;
    out.push_back(named("gelu, sums for the bias", 1, args));
    args = bare;
    args.gate = inputs_[0];
    args.up = inputs_[1];
    args.dgate = inputs_[2];
    out.push_back(named("gate and up", 3, args));
    return out;
  }

 private:
  Ending named(std::string name, int matrices, const kernels::BsrForwardArgs& args) const {
    return {.name = std::move(name), .matrices = matrices, .body = [this, args] {
              kernels::bsr_forward(args, t_.y.stream());
            }};
  }
  Ending named(std::string name, int matrices, const kernels::BsrInputGradientArgs& args) const {
    return {.name = std::move(name), .matrices = matrices, .body = [this, args] {
              kernels::bsr_input_gradient(args, t_.dx.stream());
            }};
  }

  const BsrOperands& t_;
  const BsrWeight& weight_;
  Tensor y_ = t_.y;
  Tensor dx_ = t_.dx;
  Tensor bias_;
  Tensor dbias_;
  std::array<Tensor, 2> outputs_;
  std::array<Tensor, 3> inputs_;
};

struct Place {
  BsrShape shape;
  std::int64_t block = 0;
  double sparsity = 0;
};

class Bench {
 public:
  Bench(const BenchEndingsOptions& options, const std::function<void(const std::string&)>& print)
      : o_(options),
        report_(print, options.json, options.output),
        stream_(make_stream(parse_device(options.device))),
        dtype_(stream_.device.is_cpu() ? DType::kFloat32 : DType::kBFloat16),
        random_(stream_) {
    stream_.state->get<kernels::BsrSettings>(stream_).folding = kernels::BsrFolding::kOwn;
  }

  void run() {
    report_.head(fmt::format("{:<12}{:>6}{:>10}  {:<16}{:<26}{:>9}{:>9}{:>9}{:>8}", "shape",
                             "block", "sparsity", "product", "ending", "bare ms", "ms", "extra ms",
                             "over"));
    for (BsrShape shape : bsr_shapes_of(o_.shapes)) {
      shape.m = o_.tokens.value_or(shape.m);
      const BsrOperands operands(shape, dtype_, random_);
      for (const std::int64_t block : o_.blocks) {
        for (const double sparsity : o_.sparsities) time({shape, block, sparsity}, operands);
      }
    }
    report_.finish();
  }

 private:
  void time(const Place& at, const BsrOperands& operands) {
    const BsrWeight weight(BsrPatternKind::kRandom,
                           {.rows = at.shape.n, .cols = at.shape.k, .block = at.block}, at.sparsity,
                           random_, operands);
    Endings endings(operands, weight, random_);
    time(at, "forward", endings.forward(), operands.y);
    time(at, "input_gradient", endings.input_gradient(), operands.dx);
  }

  void time(const Place& at, const char* product, const std::vector<Ending>& endings,
            const Tensor& output) {
    std::vector<std::function<void()>> bodies;
    bodies.reserve(endings.size() + 1);
    for (const Ending& ending : endings) bodies.push_back(ending.body);
    // A copy of the output reads and writes one matrix each.
    const Tensor from = output.clone();
    Tensor to = output.clone();
    bodies.push_back([&] { to.copy_from(from); });
    const std::vector<double> seconds =
        median_seconds(bodies, turns_for(stream_.device, o_.repeats), stream_);
    for (std::size_t i = 1; i < endings.size(); ++i) {
      const double extra = endings[i].matrices * seconds.back() / 2;
      report(at, product, endings[i].name, {seconds[0], seconds[i], extra});
    }
  }

  void report(const Place& at, const char* product, const std::string& ending,
              const std::array<double, 3>& seconds) {
    const auto [bare, ended, extra] = seconds;
    const double over = ended / (bare + extra);
    report_.row({{"device", o_.device},
                 {"shape", at.shape.name},
                 {"M", at.shape.m},
                 {"N", at.shape.n},
                 {"K", at.shape.k},
                 {"block", at.block},
                 {"sparsity", at.sparsity},
                 {"product", product},
                 {"ending", ending},
                 {"bare_ms", bare * 1e3},
                 {"ms", ended * 1e3},
                 {"extra_ms", extra * 1e3},
                 {"over", over}},
                fmt::format("{:<12}{:>6}{:>10.2f}  {:<16}{:<26}{:>9.4f}{:>9.4f}{:>9.4f}{:>8.3f}",
                            at.shape.name, at.block, at.sparsity, product, ending, bare * 1e3,
                            ended * 1e3, extra * 1e3, over));
  }

  const BenchEndingsOptions& o_;
  BenchReport report_;  // refuses before anything is timed
  Stream stream_;
  DType dtype_;
  RandomTensors random_;
};

}  // namespace

void bench_endings(const BenchEndingsOptions& options,
                   const std::function<void(const std::string&)>& print) {
  check(options);
  use_threads(options.threads);
  Bench(options, print).run();
}

void add_bench_endings(CLI::App& bench) {
  CLI::App* command =
      bench.add_subcommand("endings", "Time what a block-sparse product's ending costs");
  const auto o = std::make_shared<BenchEndingsOptions>();
  add_run_options(*command, *o);
  command->add_option("--shape", o->shapes, "Known sizes by name, or all")
      ->delimiter(',')
      ->capture_default_str();
  command->add_option("--tokens", o->tokens, "M, in place of a shape's own");
  add_block_options(*command, o->blocks, o->sparsities);
  command->callback([o] { bench_endings(*o, print_now); });
}

}  // namespace hew
