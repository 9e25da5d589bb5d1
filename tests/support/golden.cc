#include "tests/support/golden.h"

#include <fstream>

#include "core/error.h"

namespace hew::test {

std::filesystem::path golden_path(const std::string& file) {
  return std::filesystem::path(HEW_GOLDEN_FOLDER) / file;
}

nlohmann::json read_golden_json(const std::string& file) {
  std::ifstream in(golden_path(file));
  require<DataError>(in.is_open(), "{}: cannot be read", golden_path(file).string());
  return nlohmann::json::parse(in);
}

Tensor matrix_of(const nlohmann::json& rows, const Stream& stream) {
  std::vector<double> values;
  for (const nlohmann::json& row : rows) {
    for (const nlohmann::json& value : row) values.push_back(value.get<double>());
  }
  const auto count = static_cast<std::int64_t>(rows.size());
  return Tensor::from(values, {count, static_cast<std::int64_t>(values.size()) / count}, stream);
}

}  // namespace hew::test
