#include "data/path_pattern.h"

#include <glob.h>

#include <algorithm>
#include <filesystem>

#include "core/error.h"

namespace hew {

std::vector<std::string> expand_pattern(const std::string& pattern) {
  std::error_code ignored;
  if (std::filesystem::exists(pattern, ignored))
    return {pattern};
  glob_t matches{};
  const int code = ::glob(pattern.c_str(), 0, nullptr, &matches);
  std::vector<std::string> paths(matches.gl_pathv, matches.gl_pathv + matches.gl_pathc);
  ::globfree(&matches);
  require<DataError>(code == 0, "{}: no such file", pattern);
  std::sort(paths.begin(), paths.end());
  return paths;
}

void require_no_input(const std::string& output, std::span<const std::string> inputs) {
  for (const std::string& input : inputs) {
    std::error_code missing;
    require<ConfigError>(!std::filesystem::equivalent(output, input, missing),
                         "{}: is an input, it cannot be an output too", output);
  }
}

}  // namespace hew
