#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/tensor.h"
#include "io/hdf5.h"
#include "io/safetensors.h"

namespace hew {

/// `kind` and `version` of a sealed HDF5 file that holds exported block-sparse weights.
inline constexpr std::string_view kBsrKind = "bsr";
inline constexpr int kBsrVersion = 1;

/// A block-sparse matrix as files hold it. Blocks are ordered by (block row, block column); what a
/// ragged edge block has outside of the matrix is zero.
struct BsrRecord {
  std::string name;
  std::int64_t rows = 0;                   // N
  std::int64_t cols = 0;                   // K
  std::int64_t block = 0;                  // b
  std::vector<std::int32_t> crow_indices;  // [⌈N/b⌉ + 1]
  std::vector<std::int32_t> col_indices;   // [nnzb]
  Tensor values;                           // [nnzb, b, b] float32, float64 or bfloat16
};

/// Throws DataError naming `file`, the matrix and the place unless: crow_indices start at 0, never
/// fall, and end at nnzb; columns are in range and ascend within a row; the padding is zero.
void check_bsr(const BsrRecord& record, const std::string& file);

/// As the group `record.name` (docs/file-formats.md). All of these check the record.
void write_bsr(H5Writer& writer, const BsrRecord& record);
BsrRecord read_bsr(const H5Reader& reader, const std::string& name, const Stream& stream);
/// True if the name is a block-sparse matrix and not a dense tensor.
bool is_bsr(const H5Reader& reader, const std::string& name);
/// Sorted names of the block-sparse matrices at the top of the file.
std::vector<std::string> list_bsr(const H5Reader& reader);

/// As the tensors NAME.crow_indices, NAME.col_indices and NAME.values with NAME.shape and
/// NAME.block in the metadata: adds what a SafetensorsWriter must be told first.
void declare_bsr(const BsrRecord& record, std::vector<TensorSpec>& tensors,
                 SafetensorsMetadata& metadata);
void write_bsr(SafetensorsWriter& writer, const BsrRecord& record);
BsrRecord read_bsr(const SafetensorsReader& reader, const std::string& name, const Stream& stream);
/// Sorted names of the block-sparse matrices.
std::vector<std::string> list_bsr(const SafetensorsReader& reader);

}  // namespace hew
