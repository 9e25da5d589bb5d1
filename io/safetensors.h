#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "core/tensor.h"
#include "io/atomic_file.h"

namespace hew {

/// A tensor of a safetensors file before its values are there.
struct TensorSpec {
  std::string name;
  DType dtype = DType::kFloat32;
  Shape shape;
};

/// Where a tensor's bytes are: [begin, end) of the file.
struct TensorExtent {
  DType dtype = DType::kFloat32;
  Shape shape;
  std::int64_t begin = 0;
  std::int64_t end = 0;
  bool half = false;  // IEEE 754's binary16 in the file, float32 once read
};

using SafetensorsMetadata = std::map<std::string, std::string>;

/// Writes a safetensors file (docs/file-formats.md) that appears at commit(), complete or not at
/// all. All tensors are declared first, so that values can be made and written one at a time.
/// All functions throw DataError naming the file and the tensor.
class SafetensorsWriter {
 public:
  SafetensorsWriter(const std::filesystem::path& path, std::span<const TensorSpec> tensors,
                    const SafetensorsMetadata& metadata);

  /// The path as it was given.
  const std::string& file() const { return name_; }
  /// Values of a declared tensor, from host memory, in any order and once each.
  void write(const std::string& name, const ConstView& values);
  /// The same from any device.
  void write(const std::string& name, const Tensor& values);
  void commit();

 private:
  struct Slot {
    TensorExtent extent;
    bool written = false;
  };

  AtomicFile file_;
  std::string name_;
  std::map<std::string, Slot> slots_;
};

/// Reads a safetensors file. The header is checked whole when it is opened: its length, the dtypes,
/// and that the tensors fill the rest of the file without gap or overlap. F16, which hew does not
/// compute in, is read as float32 and BOOL as uint8. Throws DataError.
class SafetensorsReader {
 public:
  explicit SafetensorsReader(const std::filesystem::path& path);

  /// The path as it was given.
  const std::string& file() const { return name_; }
  /// Sorted.
  std::vector<std::string> names() const;
  bool exists(const std::string& name) const { return tensors_.contains(name); }
  const Shape& shape(const std::string& name) const { return extent(name).shape; }
  DType dtype(const std::string& name) const { return extent(name).dtype; }
  Tensor read(const std::string& name, const Stream& stream) const;
  const SafetensorsMetadata& metadata() const { return metadata_; }

 private:
  const TensorExtent& extent(const std::string& name) const;
  Tensor read_half(const TensorExtent& from, const Stream& stream) const;

  std::filesystem::path path_;
  std::string name_;
  FileDescriptor file_;
  std::map<std::string, TensorExtent> tensors_;
  SafetensorsMetadata metadata_;
};

}  // namespace hew
