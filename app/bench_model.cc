#include "app/bench_model.h"

#include <fmt/format.h>
#include <omp.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>

#include "app/bench_model_pair.h"
#include "app/bench_turns.h"
#include "core/cuda_device.h"
#include "core/error.h"
#include "io/atomic_file.h"
#include "train/model_file.h"

namespace hew {
namespace {

constexpr int kCpuRepeats = 5;
constexpr int kGpuRepeats = 20;
constexpr std::int64_t kCpuWarmUps = 1;
constexpr std::int64_t kGpuWarmUps = 3;

struct Row {
  std::int64_t batch = 0;
  double dense = 0;  // seconds
  double sparse = 0;
  double difference = 0;  // of the logits, in parts of the largest
};

void check(const BenchModelOptions& o) {
  require<ConfigError>(parse_device(o.device).is_cpu() || cuda_device_count() > 0,
                       "--device {}: this build or machine has only cpu", o.device);
  for (const std::int64_t batch : o.batches) {
    require<ConfigError>(batch >= 1, "--batch {}: expected 1 or more", batch);
  }
  require<ConfigError>(o.tokens >= 0, "--tokens {}: expected 1 or more", o.tokens);
  require<ConfigError>(o.threads >= 0 && o.threads <= 4096, "--threads {}: expected 0 to 4096",
                       o.threads);
  require<ConfigError>(o.repeats.value_or(1) >= 1, "--repeats {}: expected 1 or more", *o.repeats);
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
        print_(print),
        file_(options.output.empty() ? std::nullopt : std::optional<AtomicFile>(options.output)),
        stream_(make_stream(parse_device(options.device))),
        pair_(open_pair(options.words, options.precision, stream_)) {}

  void run() {
    if (!o_.json)
      print_head();
    double worst = 0;
    for (const std::int64_t batch : o_.batches) {
      const Row row = time(batch);
      worst = row.difference <= worst ? worst : row.difference;
      report(row);
    }
    if (file_) {
      file_->write(std::as_bytes(std::span(objects_)));
      file_->commit();
    }
    require<Error>(worst <= tolerance(pair_.recipe.train.precision),
                   "bench model: the logits differ by {:.2g} of the largest", worst);
  }

 private:
  Row time(std::int64_t batch) const {
    const auto dense = forward_pass(*pair_.dense.model, pair_.recipe, batch, o_.tokens, stream_);
    const auto sparse = forward_pass(*pair_.sparse.model, pair_.recipe, batch, o_.tokens, stream_);
    const double difference = relative_difference(dense(), sparse());
    const bool cpu = stream_.device.is_cpu();
    const std::array<std::function<void()>, 2> bodies{[&] { dense(); }, [&] { sparse(); }};
    const std::vector<double> seconds =
        median_seconds(bodies,
                       {.warm_ups = cpu ? kCpuWarmUps : kGpuWarmUps,
                        .repeats = o_.repeats.value_or(cpu ? kCpuRepeats : kGpuRepeats)},
                       stream_);
    return {.batch = batch, .dense = seconds[0], .sparse = seconds[1], .difference = difference};
  }

  std::string device_words() const {
    return stream_.device.is_cpu() ? fmt::format("{} threads", omp_get_max_threads())
                                   : cuda::describe(stream_.device.index);
  }

  void print_head() const {
    const layers::ModelConfig& m = pair_.recipe.model;
    print_(fmt::format("{} of {} layers, width {} · {} · {}", name_of(m.family), m.layers, m.width,
                       name_of(pair_.recipe.train.precision), device_words()));
    print_(fmt::format("{} matrices in blocks of {}, {:.2f} % dead", pair_.masked_weights,
                       fmt::join(pair_.blocks, ", "), 100 * pair_.sparsity()));
    print_(fmt::format("{:>6}{:>12}{:>12}{:>14}{:>12}{:>14}", "batch", "dense ms", "bsr ms",
                       "samples/s", "dense/bsr", "difference"));
  }

  void report(const Row& row) {
    const nlohmann::ordered_json object{{"family", name_of(pair_.recipe.model.family)},
                                        {"device", o_.device},
                                        {"hardware", device_words()},
                                        {"precision", name_of(pair_.recipe.train.precision)},
                                        {"blocks", pair_.blocks},
                                        {"sparsity", pair_.sparsity()},
                                        {"batch", row.batch},
                                        {"dense_seconds", row.dense},
                                        {"bsr_seconds", row.sparse},
                                        {"speedup", row.dense / row.sparse},
                                        {"difference", row.difference}};
    objects_ += object.dump() + "\n";
    print_(o_.json ? object.dump()
                   : fmt::format("{:>6}{:>12.3f}{:>12.3f}{:>14.1f}{:>12.3f}{:>14.2e}", row.batch,
                                 row.dense * 1e3, row.sparse * 1e3,
                                 static_cast<double>(row.batch) / row.sparse,
                                 row.dense / row.sparse, row.difference));
  }

  const BenchModelOptions& o_;
  const Print& print_;
  std::optional<AtomicFile> file_;  // refuses before anything is timed
  Stream stream_;
  ModelPair pair_;
  std::string objects_;
};

}  // namespace

void bench_model(const BenchModelOptions& options,
                 const std::function<void(const std::string&)>& print) {
  check(options);
  if (options.threads > 0)
    omp_set_num_threads(options.threads);
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
  command->add_option("--device", o->device, "cpu, cuda or cuda:N")->capture_default_str();
  command->add_option("--precision", o->precision, "fp32, tf32, bf16 or fp64; else the recipe's");
  command->add_option("--tokens", o->tokens, "Of a sequence; 0: the whole context")
      ->capture_default_str();
  command->add_option("--threads", o->threads, "0: as many as OpenMP would start")
      ->capture_default_str();
  command->add_option("--repeats", o->repeats, "Of which the median counts");
  command->add_flag("--json", o->json, "Print an object a batch size");
  command->add_option("-o,--output", o->output, "Also write these objects to this file");
  command->callback([o] {
    bench_model(*o, [](const std::string& line) {
      fmt::print("{}\n", line);
      std::fflush(stdout);
    });
  });
}

}  // namespace hew
