#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "io/safetensors.h"

namespace hew {

/// The tensors of a folder as the Hugging Face Hub has them: those of its model.safetensors, or of
/// the files that its model.safetensors.index.json names. All headers are checked when it is
/// opened, and that index and files have the same tensors. Throws DataError naming file and tensor.
class SafetensorsFolder {
 public:
  explicit SafetensorsFolder(const std::filesystem::path& folder);

  /// The one file, or the index.
  const std::string& file() const { return name_; }
  /// Sorted.
  std::vector<std::string> names() const;
  bool exists(const std::string& name) const { return holders_.contains(name); }
  /// The file that holds the tensor.
  const SafetensorsReader& holder(const std::string& name) const;
  const Shape& shape(const std::string& name) const { return holder(name).shape(name); }
  DType dtype(const std::string& name) const { return holder(name).dtype(name); }
  Tensor read(const std::string& name, const Stream& stream) const {
    return holder(name).read(name, stream);
  }

 private:
  void open_shards(const std::filesystem::path& index);

  std::string name_;
  std::vector<std::unique_ptr<SafetensorsReader>> files_;
  std::map<std::string, const SafetensorsReader*> holders_;
};

}  // namespace hew
