#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "io/hdf5.h"
#include "kernels/bsr_routes.h"
#include "layers/model.h"
#include "optim/optimizer.h"
#include "optim/weight_average.h"
#include "sparsity/sparsifier.h"
#include "train/data_record.h"
#include "train/rank_optimizer.h"
#include "train/recipe.h"

namespace hew::train {

/// How far a run has come. Everything random follows from these numbers.
struct Progress {
  std::int64_t steps = 0;          // completed optimizer steps
  std::int64_t samples = 0;        // sequences or images consumed: the data position
  std::uint64_t rng_seed = 0;      // key of all draws
  std::uint64_t rng_step = 0;      // counter of the next step's draws
  std::int64_t metrics_bytes = 0;  // length of metrics.jsonl at this step
  double flops = 0;                // really computed so far, over all ranks (train/flops.h)
  friend bool operator==(const Progress&, const Progress&) = default;
};

/// Everything a checkpoint is made from.
struct CheckpointSource {
  const Recipe& recipe;
  const Progress& progress;
  const DataRecord& data;
  layers::Model& model;
  sparsity::Sparsifier& sparsifier;
  const optim::NamedTensors& optimizer;  // RankOptimizer::state()
  optim::NamedTensors average = {};      // WeightAverage::state(); empty where there is none
  std::string product_choices = {};      // of the run's stream; empty where it has made none
  std::string bsr_routes = {};           // text of the stream's table; empty where it has none
};

/// Writes docs/checkpoint-format.md: sealed HDF5, atomically. Live blocks only, where that is what
/// the run stores. Throws DataError naming the file.
void save_checkpoint(const std::filesystem::path& path, const CheckpointSource& source);

/// An opened and verified checkpoint. Every function throws DataError naming file and place.
class Checkpoint {
 public:
  explicit Checkpoint(const std::filesystem::path& path);
  /// From an opened file of any kind.
  explicit Checkpoint(H5Reader reader);

  const std::string& file() const { return reader_.file(); }
  /// The recipe it was written with, its vocabulary or classes filled in.
  Recipe recipe() const;
  Progress progress() const;
  DataRecord data() const;
  /// ProductSettings::export_choices() of the rank that wrote it; empty where there are none.
  std::string product_choices() const;
  /// Lets a GPU's stream compute products as the run did; leaves the CPU's as it is.
  void restore_product_choices(const Stream& stream) const;
  /// The measured times that the run's block-sparse products go by; nothing where there are none.
  std::optional<kernels::BsrRoutes> bsr_routes() const;
  /// Puts weights, patterns, scores and their averages into a freshly built model of the
  /// checkpoint's recipe. Throws where names, shapes or dtypes do not fit.
  void restore_model(layers::Model& model, sparsity::Sparsifier& sparsifier) const;
  /// Moments and births, into an optimizer made after restore_model.
  void restore_optimizer(optim::Optimizer& optimizer) const;
  void restore_optimizer(RankOptimizer& optimizer) const;
  /// Into averages made after restore_model.
  void restore_average(optim::WeightAverage& average) const;

 private:
  optim::NamedTensors optimizer_state(const std::vector<std::string>& names) const;
  void restore_averages(sparsity::Sparsifier& sparsifier) const;
  void restore_weight(sparsity::LinearWeight& weight, const Stream& stream) const;
  std::string text(const char* name) const;
  Tensor read_like(const std::string& name, const Shape& shape, const Tensor& like) const;

  H5Reader reader_;
};

}  // namespace hew::train
