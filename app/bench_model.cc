#include "app/bench_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>

#include "app/bench_model_pair.h"
#include "app/bench_options.h"
#include "app/bench_report.h"
#include "core/error.h"
#include "train/model_file.h"

namespace hew {
namespace {

struct Row {
  std::int64_t batch = 0;
  double dense = 0;  // seconds
  double sparse = 0;
  double difference = 0;  // of the logits, in parts of the largest
};

void check(const BenchModelOptions& o) {
  check_run_options(o);
  for (const std::int64_t batch : o.batches) {
    require<ConfigError>(batch >= 1, "--batch {}: expected 1 or more", batch);
  }
  require<ConfigError>(o.tokens >= 0, "--tokens {}: expected 1 or more", o.tokens);
}

// What logits of two orders of the same sums may differ by, in parts of the largest.
double tolerance(train::Precision precision) {
  switch (precision) {
    case train::Precision::kFp64:
      return 1e-10;
    case train::Precision::kFp32:
      return 1e-4;
    case train::Precision::kTf32:
    case train::Precision::kBf16:
      break;
  }
  return 0.1;
}

double relative_difference(const Tensor& a, const Tensor& b) {
  const auto x = train::converted(a, DType::kFloat64).to_vector<double>();
  const auto y = train::converted(b, DType::kFloat64).to_vector<double>();
  double largest = 0;
  double worst = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    largest = std::max(largest, std::abs(x[i]));
    const double difference = std::abs(x[i] - y[i]);
    if (!(difference <= worst))
      worst = difference;
  }
  return worst / largest;
}

class Bench {
 public:
  using Print = std::function<void(const std::string&)>;

  Bench(const BenchModelOptions& options, const Print& print)
      : o_(options),
        report_(print, options.json, options.output),
        stream_(make_stream(parse_device(options.device))),
        pair_(open_pair(options.words, options.precision, stream_)) {}

  void run() {
    print_head();
    double worst = 0;
    for (const std::int64_t batch : o_.batches) {
      const Row row = time(batch);
      worst = row.difference <= worst ? worst : row.difference;
      report(row);
    }
    report_.finish();
    require<Error>(worst <= tolerance(pair_.recipe.train.precision),
                   "bench model: the logits differ by {:.2g} of the largest", worst);
  }

 private:
  Row time(std::int64_t batch) const {
    const auto dense = forward_pass(*pair_.dense.model, pair_.recipe, batch, o_.tokens, stream_);
    const auto sparse = forward_pass(*pair_.sparse.model, pair_.recipe, batch, o_.tokens, stream_);
    const double difference = relative_difference(dense(), sparse());
    const std::array<std::function<void()>, 2> bodies{[&] { dense(); }, [&] { sparse(); }};
    const std::vector<double> seconds =
        median_seconds(bodies, turns_for(stream_.device, o_.repeats), stream_);
    return {.batch = batch, .dense = seconds[0], .sparse = seconds[1], .difference = difference};
  }

  void print_head() const {
    const layers::ModelConfig& m = pair_.recipe.model;
    report_.head(fmt::format("{} of {} layers, width {} · {} · {}", name_of(m.family), m.layers,
                             m.width, name_of(pair_.recipe.train.precision),
                             hardware_words(stream_.device)));
    report_.head(fmt::format("{} matrices in blocks of {}, {:.2f} % dead", pair_.masked_weights,
                             fmt::join(pair_.blocks, ", "), 100 * pair_.sparsity()));
    report_.head(fmt::format("{:>6}{:>12}{:>12}{:>14}{:>12}{:>14}", "batch", "dense ms", "bsr ms",
                             "samples/s", "dense/bsr", "difference"));
  }

  void report(const Row& row) {
    report_.row(
        {{"family", name_of(pair_.recipe.model.family)},
         {"device", o_.device},
         {"hardware", hardware_words(stream_.device)},
         {"precision", name_of(pair_.recipe.train.precision)},
         {"blocks", pair_.blocks},
         {"sparsity", pair_.sparsity()},
         {"batch", row.batch},
         {"dense_seconds", row.dense},
         {"bsr_seconds", row.sparse},
         {"speedup", row.dense / row.sparse},
         {"difference", row.difference}},
        fmt::format("{:>6}{:>12.3f}{:>12.3f}{:>14.1f}{:>12.3f}{:>14.2e}", row.batch,
                    row.dense * 1e3, row.sparse * 1e3, static_cast<double>(row.batch) / row.sparse,
                    row.dense / row.sparse, row.difference));
  }

  const BenchModelOptions& o_;
  BenchReport report_;  // refuses before anything is timed
  Stream stream_;
  ModelPair pair_;
};

}  // namespace

void bench_model(const BenchModelOptions& options,
                 const std::function<void(const std::string&)>& print) {
  check(options);
  use_threads(options.threads);
  Bench(options, print).run();
}

void add_bench_model(CLI::App& bench) {
  CLI::App* command = bench.add_subcommand(
      "model", "Time a model's forward pass with block-sparse weights against dense ones");
  const auto o = std::make_shared<BenchModelOptions>();
  command
      ->add_option("model", o->words,
                   "Run, checkpoint or exported model; or a recipe and key=value, for random "
                   "weights and masks")
      ->required();
  command->add_option("--batch", o->batches, "Samples at a time")
      ->delimiter(',')
      ->capture_default_str();
  add_run_options(*command, *o);
  command->add_option("--precision", o->precision, "fp32, tf32, bf16 or fp64; else the recipe's");
  command->add_option("--tokens", o->tokens, "Of a sequence; 0: the whole context")
      ->capture_default_str();
  command->callback([o] { bench_model(*o, print_now); });
}

}  // namespace hew
