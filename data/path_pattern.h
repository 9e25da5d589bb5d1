#pragma once

#include <span>
#include <string>
#include <vector>

namespace hew {

/// The files and folders that a glob pattern names, in byte order. A name that exists is itself,
/// whatever signs it has. Throws DataError where nothing fits.
std::vector<std::string> expand_pattern(const std::string& pattern);
/// Throws ConfigError if `output` is the file of one of `inputs`, whatever it is called there;
/// empty names are none.
void require_no_input(const std::string& output, std::span<const std::string> inputs);

}  // namespace hew
