#include "train/json_fields.h"

#include "core/error.h"
#include "io/atomic_file.h"
#include "train/json_line.h"

namespace hew::train {

using nlohmann::json;

JsonFields JsonFields::read(const std::filesystem::path& path) {
  json object = json::parse(read_all(path), nullptr, /*allow_exceptions=*/false);
  require<DataError>(object.is_object(), "{}: is no JSON object", path.string());
  return {std::move(object), path.string() + ": "};
}

bool JsonFields::has(const std::string& key) const {
  return object_.contains(key) && !object_.at(key).is_null();
}

std::int64_t JsonFields::size(const std::string& key) const {
  if (!has(key) || !object_.at(key).is_number_integer() || object_.at(key).get<std::int64_t>() < 1)
    refuse(key, "an integer ≥ 1");
  return object_.at(key).get<std::int64_t>();
}

std::int64_t JsonFields::size_or(const std::string& key, std::int64_t fallback) const {
  return has(key) ? size(key) : fallback;
}

double JsonFields::number_or(const std::string& key, double fallback) const {
  if (!has(key))
    return fallback;
  if (!object_.at(key).is_number())
    refuse(key, "a number");
  return object_.at(key).get<double>();
}

bool JsonFields::flag_or(const std::string& key, bool fallback) const {
  if (!has(key))
    return fallback;
  if (!object_.at(key).is_boolean())
    refuse(key, "true or false");
  return object_.at(key).get<bool>();
}

std::string JsonFields::text_or(const std::string& key, const std::string& fallback) const {
  if (!has(key))
    return fallback;
  if (!object_.at(key).is_string())
    refuse(key, "a text");
  return object_.at(key).get<std::string>();
}

JsonFields JsonFields::object(const std::string& key) const {
  if (!has(key))
    return {json::object(), place_ + key + "."};
  if (!object_.at(key).is_object())
    refuse(key, "an object");
  return {object_.at(key), place_ + key + "."};
}

void JsonFields::refuse(const std::string& key, const std::string& expected) const {
  const std::string got =
      object_.contains(key) ? "got " + json_line(object_.at(key)) : std::string("missing");
  throw DataError(fmt::format("{}{}: {}, expected {}", place_, key, got, expected));
}

void JsonFields::expect(const std::string& key, const json& only) const {
  if (has(key) && object_.at(key) != only)
    refuse(key, only.dump());
}

}  // namespace hew::train
