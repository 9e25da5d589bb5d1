#include "io/safetensors_folder.h"

#include <nlohmann/json.hpp>

#include "core/error.h"

namespace hew {
namespace {

constexpr const char* kOneFile = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";

// Files by the tensors that the index says they hold.
std::map<std::string, std::string> read_index(const std::filesystem::path& path) {
  std::map<std::string, std::string> holders;
  try {
    holders = nlohmann::json::parse(read_all(path))
                  .at("weight_map")
                  .get<std::map<std::string, std::string>>();
  } catch (const nlohmann::json::exception& error) {
    throw DataError(
        fmt::format("{}: no weight_map of tensors and files: {}", path.string(), error.what()));
  }
  for (const auto& [tensor, holder] : holders) {
    require<DataError>(!holder.empty() && std::filesystem::path(holder).filename() == holder,
                       "{}: tensor '{}' is in '{}', expected a file beside the index",
                       path.string(), tensor, holder);
  }
  return holders;
}

}  // namespace

SafetensorsFolder::SafetensorsFolder(const std::filesystem::path& folder) {
  const std::filesystem::path one = folder / kOneFile;
  if (!std::filesystem::exists(one)) {
    open_shards(folder / kIndex);
    return;
  }
  name_ = one.string();
  files_.push_back(std::make_unique<SafetensorsReader>(one));
  for (const std::string& tensor : files_.front()->names()) {
    holders_[tensor] = files_.front().get();
  }
}

void SafetensorsFolder::open_shards(const std::filesystem::path& index) {
  require<DataError>(std::filesystem::exists(index), "{}: has neither {} nor {}",
                     index.parent_path().string(), kOneFile, kIndex);
  name_ = index.string();
  const std::map<std::string, std::string> promised = read_index(index);
  std::map<std::string, const SafetensorsReader*> opened;
  for (const auto& [tensor, file] : promised) {
    if (!opened.contains(file)) {
      files_.push_back(std::make_unique<SafetensorsReader>(index.parent_path() / file));
      opened[file] = files_.back().get();
    }
    const SafetensorsReader& reader = *opened[file];
    require<DataError>(reader.exists(tensor), "{}: tensor '{}' is not in {}, where {} has it",
                       reader.file(), tensor, file, kIndex);
    holders_[tensor] = &reader;
  }
  for (const auto& [file, reader] : opened) {
    for (const std::string& tensor : reader->names()) {
      const auto found = promised.find(tensor);
      require<DataError>(found != promised.end() && found->second == file,
                         "{}: tensor '{}' is {} in {}", reader->file(), tensor,
                         found == promised.end() ? "not" : "in another file", kIndex);
    }
  }
}

std::vector<std::string> SafetensorsFolder::names() const {
  std::vector<std::string> names;
  names.reserve(holders_.size());
  for (const auto& [name, reader] : holders_) names.push_back(name);
  return names;
}

const SafetensorsReader& SafetensorsFolder::holder(const std::string& name) const {
  const auto found = holders_.find(name);
  require<DataError>(found != holders_.end(), "{}: tensor '{}' is missing", name_, name);
  return *found->second;
}

}  // namespace hew
