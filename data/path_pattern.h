#pragma once

#include <string>
#include <vector>

namespace hew {

/// The files and folders that a glob pattern names, in byte order. A name that exists is itself,
/// whatever signs it has. Throws DataError where nothing fits.
std::vector<std::string> expand_pattern(const std::string& pattern);

}  // namespace hew
