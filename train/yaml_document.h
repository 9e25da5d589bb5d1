#pragma once

#include <yaml-cpp/yaml.h>

#include <string>
#include <string_view>

namespace hew::train {

/// The mapping that `text` holds. Throws ConfigError, with file and line, if it is not YAML, holds
/// several documents, or something other than a mapping.
YAML::Node load_mapping(std::string_view text, const std::string& source_name);

}  // namespace hew::train
