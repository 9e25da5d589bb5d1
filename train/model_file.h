#pragma once

#include <filesystem>

#include "io/hdf5.h"
#include "io/safetensors.h"
#include "train/trained_model.h"

namespace hew::train {

/// A whole model in one file (docs/file-formats.md): masked weights as BSR, the others as they are,
/// and a description from which the model can be built. Values are cast to `dtype`. An older file
/// of the name is replaced. Throws DataError.
void save_model_hdf5(const std::filesystem::path& path, const TrainedModel& trained, DType dtype);
void save_model_safetensors(const std::filesystem::path& path, const TrainedModel& trained,
                            DType dtype);

/// The inverse, in the precision of the description's recipe. Throws DataError naming file and
/// place, also where a tensor is missing, left over, or of another shape.
TrainedModel load_model_file(const H5Reader& reader, const Stream& stream);
TrainedModel load_model_file(const SafetensorsReader& reader, const Stream& stream);

/// Whether the file is whole and one of the two, safetensors where its name ends so.
bool is_model_file(const std::filesystem::path& path);

/// The values in another floating dtype; the tensor itself where it has that one already.
Tensor converted(const Tensor& values, DType dtype);

}  // namespace hew::train
