#include "train/export.h"

#include "core/error.h"
#include "io/atomic_folder.h"
#include "train/hugging_face.h"
#include "train/model_file.h"

namespace hew::train {
namespace {

constexpr const char* kConfigFile = "config.json";

void write_text(const std::filesystem::path& path, const std::string& text) {
  AtomicFile file(path);
  file.write(std::as_bytes(std::span(text)));
  file.commit();
}

void save_dense(const std::filesystem::path& path, const TrainedModel& trained, DType dtype) {
  const std::string config = hugging_face_config(trained, dtype);
  const std::vector<NamedValues> tensors = hugging_face_tensors(trained, dtype);
  std::vector<TensorSpec> specs;
  specs.reserve(tensors.size());
  for (const NamedValues& tensor : tensors) specs.push_back(tensor.spec);
  AtomicFolder folder(path);
  write_text(folder.temporary() / kConfigFile, config);
  SafetensorsWriter writer(folder.temporary() / "model.safetensors", specs, {{"format", "pt"}});
  for (const NamedValues& tensor : tensors) writer.write(tensor.spec.name, tensor.values());
  writer.commit();
  if (trained.data.tokenizer.kind == "sentencepiece")
    write_text(folder.temporary() / "tokenizer.model", trained.data.tokenizer.blob);
  folder.commit();
}

std::int64_t bytes_on_disk(const std::filesystem::path& path) {
  if (!std::filesystem::is_directory(path))
    return static_cast<std::int64_t>(std::filesystem::file_size(path));
  std::int64_t bytes = 0;
  for (const auto& entry : std::filesystem::directory_iterator(path)) {
    bytes += static_cast<std::int64_t>(entry.file_size());
  }
  return bytes;
}

std::int64_t dense_bytes(const TrainedModel& trained, DType dtype) {
  std::int64_t bytes = 0;
  for (const NamedValues& tensor : hugging_face_tensors(trained, dtype)) {
    bytes += tensor.spec.shape.numel() * size_of(dtype);
  }
  return bytes;
}

}  // namespace

void check_export_output(const std::filesystem::path& path, const ExportOptions& options) {
  if (!std::filesystem::exists(path))
    return;
  require<ConfigError>(options.force, "{}: exists already; --force replaces an earlier export",
                       path.string());
  if (options.format == ExportFormat::kDenseSafetensors) {
    require<ConfigError>(std::filesystem::exists(path / kConfigFile),
                         "{}: is no folder of an earlier export and stays as it is", path.string());
  } else {
    require<ConfigError>(is_model_file(path), "{}: is no earlier export and stays as it is",
                         path.string());
  }
}

ExportReport export_model(const TrainedModel& trained, const std::filesystem::path& path,
                          const ExportOptions& options) {
  const DType dtype = options.dtype.value_or(weight_dtype(trained.recipe.train.precision));
  require<ConfigError>(is_floating(dtype), "[export] weights cannot be {}", name_of(dtype));
  check_export_output(path, options);
  switch (options.format) {
    case ExportFormat::kBsrHdf5:
      save_model_hdf5(path, trained, dtype);
      break;
    case ExportFormat::kSafetensors:
      save_model_safetensors(path, trained, dtype);
      break;
    case ExportFormat::kDenseSafetensors:
      save_dense(path, trained, dtype);
      break;
  }
  return {.dtype = dtype, .bytes = bytes_on_disk(path), .dense_bytes = dense_bytes(trained, dtype)};
}

}  // namespace hew::train
