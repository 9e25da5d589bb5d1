#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "core/tensor.h"

namespace hew::test {

/// A file of tests/golden/, which the scripts of tests/python/ write.
std::filesystem::path golden_path(const std::string& file);
nlohmann::json read_golden_json(const std::string& file);

/// A list of rows as a float64 [rows, cols].
Tensor matrix_of(const nlohmann::json& rows, const Stream& stream);

}  // namespace hew::test
