#pragma once

#include <array>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "core/named_enum.h"
#include "train/trained_model.h"

namespace hew::train {

enum class ExportFormat : std::uint8_t { kBsrHdf5, kSafetensors, kDenseSafetensors };

struct ExportOptions {
  ExportFormat format = ExportFormat::kBsrHdf5;
  std::optional<DType> dtype = {};  // the precision of the run, if not given
  bool force = false;               // replace what an earlier export left under this name
};

struct ExportReport {
  DType dtype = DType::kFloat32;
  std::int64_t bytes = 0;        // of all files written
  std::int64_t dense_bytes = 0;  // that the weights alone take with every block stored
};

/// Throws ConfigError if something has the output's name, unless `force` is set and it is what
/// this format would write: a file, or a folder with a config.json.
void check_export_output(const std::filesystem::path& path, const ExportOptions& options);

/// Writes the model for inference, by hew or by other programs (docs/file-formats.md); masked
/// masters are folded by their masks. dense-safetensors makes a folder, the others a file; either
/// appears complete or not at all. Throws ConfigError, also where Hugging Face's config cannot
/// express the model, and DataError.
ExportReport export_model(const TrainedModel& trained, const std::filesystem::path& path,
                          const ExportOptions& options);

}  // namespace hew::train

namespace hew {

template <>
struct EnumNames<train::ExportFormat> {
  using E = train::ExportFormat;
  static constexpr auto kTable =
      std::to_array<std::pair<E, std::string_view>>({{E::kBsrHdf5, "bsr-hdf5"},
                                                     {E::kSafetensors, "safetensors"},
                                                     {E::kDenseSafetensors, "dense-safetensors"}});
};

}  // namespace hew
