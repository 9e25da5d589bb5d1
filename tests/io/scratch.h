#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace hew::test {

/// A folder of its own that is gone when the test is over.
class Scratch {
 public:
  Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch();

  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }
  const std::filesystem::path& path() const { return path_; }
  /// File names in the folder, sorted.
  std::vector<std::string> list() const;

 private:
  std::filesystem::path path_;
};

std::string read_bytes(const std::filesystem::path& path);
void write_bytes(const std::filesystem::path& path, const std::string& bytes);

/// The text of the DataError that `action` throws, or "" if it throws none.
std::string data_error_of(const std::function<void()>& action);

}  // namespace hew::test
