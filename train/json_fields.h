#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

namespace hew::train {

/// A JSON object from a file that others wrote, asked for one key at a time. What is not there and
/// what is null are the same. Throws DataError `<file>: <key>: got …, expected …`.
class JsonFields {
 public:
  /// Throws DataError also where the file is no JSON object.
  static JsonFields read(const std::filesystem::path& path);
  JsonFields(nlohmann::json object, std::string place)
      : object_(std::move(object)), place_(std::move(place)) {}

  const std::string& place() const { return place_; }
  bool has(const std::string& key) const;
  /// An integer ≥ 1.
  std::int64_t size(const std::string& key) const;
  std::int64_t size_or(const std::string& key, std::int64_t fallback) const;
  double number_or(const std::string& key, double fallback) const;
  bool flag_or(const std::string& key, bool fallback) const;
  std::string text_or(const std::string& key, const std::string& fallback) const;
  /// The object under the key; an empty one where there is none.
  JsonFields object(const std::string& key) const;
  const nlohmann::json& value(const std::string& key) const { return object_.at(key); }

  /// Throws "got …, expected <expected>".
  [[noreturn]] void refuse(const std::string& key, const std::string& expected) const;
  /// Refuses anything but `only` and nothing at all.
  void expect(const std::string& key, const nlohmann::json& only) const;

 private:
  nlohmann::json object_;
  std::string place_;  // of the object; keys are added to it
};

}  // namespace hew::train
