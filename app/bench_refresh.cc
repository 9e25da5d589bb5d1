#include "app/bench_refresh.h"

#include <fmt/format.h>
#include <omp.h>

#include <array>
#include <memory>
#include <numeric>
#include <set>

#include "app/bench_options.h"
#include "app/bench_report.h"
#include "app/recipe_choice.h"
#include "core/error.h"
#include "core/host_memory.h"
#include "core/parallel.h"
#include "kernels/bsr_schedule.h"
#include "sparsity/block_scores.h"
#include "sparsity/selection.h"
#include "train/model_setup.h"
#include "train/workload.h"

namespace hew {
namespace {

using sparsity::BlockMask;
using sparsity::BsrPattern;
using sparsity::PatternPtr;

constexpr double kSwapFraction = 0.3;

// One matrix before the refresh, and what it is decided by.
struct Matrix {
  BlockMask before;
  std::int64_t live = 0;
  std::vector<double> score;
  std::vector<double> growth;

  BlockMask selected() const {
    return {.grid = before.grid,
            .mask = sparsity::prune_and_grow({.live = before.mask,
                                              .score = score,
                                              .growth = growth,
                                              .wanted = live,
                                              .regrow = sparsity::Regrow::kSwap,
                                              .swap_fraction = kSwapFraction})};
  }
};

Matrix random_matrix(const sparsity::BlockGrid& grid, double sparsity, std::uint64_t key) {
  const auto scores = [&](std::int64_t stream) {
    return sparsity::random_block_scores(grid, key, stream);
  };
  Matrix out{.before = {.grid = grid, .mask = {}},
             .live = sparsity::live_blocks(grid.blocks(), sparsity),
             .score = scores(1),
             .growth = scores(2)};
  out.before.mask.resize(out.score.size(), 0);
  for (const std::int64_t block : sparsity::top_k(scores(0), out.live))
    out.before.mask[static_cast<std::size_t>(block)] = 1;
  return out;
}

sparsity::BlockGrid grid_of(const sparsity::Sparsifier& sparsifier,
                            const sparsity::Sparsifier::Target& target) {
  return {.rows = target.weight->out_features(),
          .cols = target.weight->in_features(),
          .block = sparsifier.rules()[target.rule].block};
}

// The blocks under masks. Sizes that a recipe may have can still be too many for this machine.
double require_memory(const sparsity::Sparsifier& sparsifier) {
  // At the peak, as measured in blocks of 32 with all live and with a fifth.
  constexpr double kBytesOfBlock = 60;
  constexpr double kBytesOfLiveBlock = 150;
  constexpr double kGiB = 1 << 30;
  double blocks = 0;
  double bytes = 0;
  for (const sparsity::Sparsifier::Target& target : sparsifier.targets()) {
    const auto count = static_cast<double>(grid_of(sparsifier, target).blocks());
    const double density = 1 - sparsifier.rules()[target.rule].schedule.final;
    blocks += count;
    bytes += count * (kBytesOfBlock + density * kBytesOfLiveBlock);
  }
  const auto memory = static_cast<double>(host_memory_bytes());
  require<ConfigError>(bytes <= memory,
                       "bench refresh: {:.3g} blocks need some {:.1f} GiB, and this machine has "
                       "{:.1f}",
                       blocks, bytes / kGiB, memory / kGiB);
  return blocks;
}

std::vector<Matrix> matrices_of(const BenchRefreshOptions& o, const BenchReport& report) {
  const RecipeChoice choice = choose_recipe(o.words);
  require<ConfigError>(!choice.path.empty(), "bench refresh: expected a recipe");
  train::Recipe recipe = train::load_recipe(choice.path, choice.overrides);
  train::complete_model(recipe);
  const train::SparseModel parts =
      train::build_model(recipe, make_cpu_stream(), train::Build::kShapesOnly);
  const double blocks = require_memory(*parts.sparsifier);
  if (blocks > 0)
    report.head(fmt::format("{:.3g} blocks are drawn, then refreshed again and again", blocks));
  std::vector<Matrix> matrices;
  for (const sparsity::Sparsifier::Target& target : parts.sparsifier->targets()) {
    const sparsity::SparsityRule& rule = parts.sparsifier->rules()[target.rule];
    matrices.push_back(
        random_matrix(grid_of(*parts.sparsifier, target), rule.schedule.final, matrices.size()));
  }
  require<ConfigError>(!matrices.empty(), "{}: no matrix of the model is under a mask",
                       choice.path);
  return matrices;
}

struct Times {
  double selection = 0;  // seconds
  double index = 0;
  double schedule = 0;
  double upload = 0;
  double all = 0;
  std::int64_t bytes = 0;  // that are copied
};

class Bench {
 public:
  Bench(const BenchRefreshOptions& options, const BenchReport::Print& print)
      : o_(options),
        report_(print, options.json, options.output),
        stream_(make_stream(parse_device(options.device))),
        matrices_(matrices_of(options, report_)) {}

  void run() {
    const Times times = time();
    std::set<std::int64_t> blocks;
    std::int64_t live = 0;
    std::int64_t all = 0;
    for (const Matrix& matrix : matrices_) {
      const std::int64_t area = matrix.before.grid.block * matrix.before.grid.block;
      blocks.insert(matrix.before.grid.block);
      live += matrix.live * area;
      all += matrix.before.grid.blocks() * area;
    }
    const double dead = 1 - static_cast<double>(live) / static_cast<double>(all);
    const int threads = omp_get_max_threads();
    report_.head(fmt::format("{} matrices in blocks of {}, {:.2f} % dead · {} threads · {}",
                             matrices_.size(), fmt::join(blocks, ", "), 100 * dead, threads,
                             o_.device));
    report_.head(fmt::format("{:>13}{:>10}{:>13}{:>11}{:>10}{:>10}", "selection ms", "index ms",
                             "schedule ms", "upload ms", "all ms", "MiB"));
    report_.row(
        {{"device", o_.device},
         {"threads", threads},
         {"matrices", matrices_.size()},
         {"blocks", blocks},
         {"sparsity", dead},
         {"selection_seconds", times.selection},
         {"index_seconds", times.index},
         {"schedule_seconds", times.schedule},
         {"upload_seconds", times.upload},
         {"seconds", times.all},
         {"bytes", times.bytes}},
        fmt::format("{:>13.3f}{:>10.3f}{:>13.3f}{:>11.3f}{:>10.3f}{:>10.2f}", times.selection * 1e3,
                    times.index * 1e3, times.schedule * 1e3, times.upload * 1e3, times.all * 1e3,
                    static_cast<double>(times.bytes) / (1 << 20)));
    report_.finish();
  }

 private:
  std::vector<BlockMask> select() const {
    std::vector<BlockMask> masks(matrices_.size());
    for_each_parallel(std::ssize(masks),
                      [&](std::size_t i) { masks[i] = matrices_[i].selected(); });
    return masks;
  }

  // Returns the words of int32 that they have.
  std::int64_t make_schedules(const std::vector<PatternPtr>& patterns) const {
    std::vector<std::int64_t> words(patterns.size(), 0);
    for_each_parallel(std::ssize(patterns), [&](std::size_t i) {
      if (kernels::has_schedule(patterns[i]->grid().block))
        words[i] = std::ssize(kernels::BsrPlan(patterns[i]->index(), stream_).words());
    });
    return std::accumulate(words.begin(), words.end(), std::int64_t{0});
  }

  Times time() const {
    const Stream cpu = make_cpu_stream();
    const bool gpu = stream_.device.is_cuda();
    const std::vector<BlockMask> masks = select();
    const std::vector<PatternPtr> patterns = BsrPattern::of(masks, cpu);
    std::int64_t words = make_schedules(patterns);
    for (const PatternPtr& pattern : patterns) {
      const sparsity::BlockGrid& grid = pattern->grid();
      words += grid.block_rows() + grid.block_cols() + 2 + 3 * pattern->nnzb();
    }
    const std::vector<std::int32_t> copied(static_cast<std::size_t>(words));
    const std::array<std::function<void()>, 5> bodies{
        [&] { select(); }, [&] { BsrPattern::of(masks, cpu); }, [&] { make_schedules(patterns); },
        [&] {
          if (!gpu)
            return;
          const Tensor there = Tensor::from(copied, {words}, stream_);
          synchronize(stream_);
        },
        [&] {
          if (!gpu)
            return;
          const std::vector<PatternPtr> there = BsrPattern::of(select(), stream_);
          synchronize(stream_);
        }};
    // The host's clock: it waits for the GPU where there is one.
    const std::vector<double> seconds =
        median_seconds(bodies, turns_for(stream_.device, o_.repeats), cpu);
    return {.selection = seconds[0],
            .index = seconds[1],
            .schedule = seconds[2],
            .upload = gpu ? seconds[3] : 0,
            .all = gpu ? seconds[4] : std::accumulate(seconds.begin(), seconds.begin() + 3, 0.0),
            .bytes = words * std::int64_t{sizeof(std::int32_t)}};
  }

  const BenchRefreshOptions& o_;
  BenchReport report_;  // refuses before anything is timed
  Stream stream_;
  std::vector<Matrix> matrices_;
};

}  // namespace

void bench_refresh(const BenchRefreshOptions& options,
                   const std::function<void(const std::string&)>& print) {
  check_run_options(options);
  use_threads(options.threads);
  Bench(options, print).run();
}

void add_bench_refresh(CLI::App& bench) {
  CLI::App* command = bench.add_subcommand(
      "refresh", "Time what the host does when a recipe's masks are refreshed");
  const auto o = std::make_shared<BenchRefreshOptions>();
  command->add_option("recipe", o->words, "Recipe and key=value; its final sparsity")->required();
  add_run_options(*command, *o);
  command->callback([o] { bench_refresh(*o, print_now); });
}

}  // namespace hew
