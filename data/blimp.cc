#include "data/blimp.h"

#include <algorithm>
#include <filesystem>

#include "core/error.h"
#include "data/json_lines.h"

namespace hew {
namespace {

std::vector<std::filesystem::path> files_of(const std::filesystem::path& path) {
  if (!std::filesystem::is_directory(path))
    return {path};
  std::vector<std::filesystem::path> files;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(path, error)) {
    if (entry.path().extension() == ".jsonl")
      files.push_back(entry.path());
  }
  require<DataError>(!error, "{}: cannot be read: {}", path.string(), error.message());
  require<DataError>(!files.empty(), "{}: a folder without .jsonl files", path.string());
  std::ranges::sort(files);
  return files;
}

Phenomenon read_file(const std::filesystem::path& path, std::int64_t limit) {
  Phenomenon phenomenon{.name = path.stem().string(), .pairs = {}};
  for_each_json_line(path.string(), [&](const JsonLine& line) {
    MinimalPair pair{.good = line.text("sentence_good"), .bad = line.text("sentence_bad")};
    require<DataError>(!pair.good.empty() && !pair.bad.empty(), "{}: an empty sentence",
                       line.where());
    phenomenon.pairs.push_back(std::move(pair));
    return std::ssize(phenomenon.pairs) != limit;
  });
  require<DataError>(!phenomenon.pairs.empty(), "{}: holds no pair", path.string());
  return phenomenon;
}

}  // namespace

std::vector<Phenomenon> read_blimp(const std::string& path, std::int64_t limit) {
  std::vector<Phenomenon> phenomena;
  for (const std::filesystem::path& file : files_of(path)) {
    phenomena.push_back(read_file(file, limit));
  }
  return phenomena;
}

}  // namespace hew
