#pragma once

#include <cstdint>
#include <filesystem>

#include "io/atomic_file.h"

namespace hew {

/// Bytes in front of a sealed file's payload: an HDF5 user block (docs/file-formats.md).
inline constexpr std::int64_t kSealBytes = 512;

/// Fills in the first kSealBytes of a finished file: magic, length and SHA-256 of what follows.
void seal(AtomicFile& file);

/// Checks magic, length and SHA-256 of the whole file. Throws DataError `<path>: <reason>` that
/// tells apart: missing, not sealed, truncated, longer than sealed, damaged, newer container.
void verify_seal(const std::filesystem::path& path);

}  // namespace hew
