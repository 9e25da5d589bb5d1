#include "train/trained_model.h"

#include <algorithm>
#include <array>

#include "core/error.h"
#include "io/bsr_file.h"
#include "train/averaged_model.h"
#include "train/model_file.h"

namespace hew::train {
namespace {

TrainedModel restore(const Checkpoint& checkpoint, const Stream& stream) {
  TrainedModel trained{.recipe = checkpoint.recipe(),
                       .progress = checkpoint.progress(),
                       .data = checkpoint.data(),
                       .file = checkpoint.file(),
                       .warnings = {},
                       .parts = {}};
  trained.parts = build_model(trained.recipe, stream, Build::kShapesOnly);
  layers::Model& model = *trained.parts.model;
  checkpoint.restore_model(model, *trained.parts.sparsifier);
  if (trained.recipe.train.ema > 0) {
    optim::WeightAverage average(model.parameters());
    checkpoint.restore_average(average);
    take_averages(model, model, average);
  }
  settle_masks(trained.parts, trained.progress.steps);
  return trained;
}

// Sealed by hew, or an HDF5 file that lost its seal: reading it says which.
bool looks_like_hdf5(const std::filesystem::path& path) {
  constexpr std::array<std::string_view, 2> kMagics{"hew-h5 ", "\x89HDF"};
  const FileDescriptor file = open_to_read(path);
  std::string start(kMagics.front().size(), '\0');
  start.resize(static_cast<std::size_t>(
      std::min<std::int64_t>(size_of_file(file, path), std::ssize(start))));
  read_at(file, path, 0, std::as_writable_bytes(std::span(start)));
  const std::string extension = path.extension().string();
  return extension == ".h5" || extension == ".hdf5" ||
         std::ranges::any_of(kMagics, [&](auto magic) { return start.starts_with(magic); });
}

TrainedModel load_directory(const std::filesystem::path& path, const Stream& stream) {
  require<DataError>(!std::filesystem::exists(path / "config.json"),
                     "{}: a dense export for other programs; hew reads runs, checkpoints, and "
                     "exports of format bsr-hdf5 or safetensors",
                     path.string());
  std::vector<std::string> warnings;
  TrainedModel trained = restore(open_newest_checkpoint(RunDirectory(path), warnings), stream);
  trained.warnings = std::move(warnings);
  return trained;
}

}  // namespace

TrainedModel load_trained_model(const std::filesystem::path& path, const Stream& stream) {
  require<DataError>(std::filesystem::exists(path), "{}: no such run, checkpoint or exported model",
                     path.string());
  if (std::filesystem::is_directory(path))
    return load_directory(path, stream);
  if (!looks_like_hdf5(path))
    return load_model_file(SafetensorsReader(path), stream);
  H5Reader reader(path);
  if (reader.kind() == kBsrKind)
    return load_model_file(reader, stream);
  return restore(Checkpoint(std::move(reader)), stream);
}

}  // namespace hew::train
