#pragma once

#include <cstdint>

namespace hew::kernels::hopper {

/// How the rows of 128, 64 or 32 bytes of a tile are permuted in shared memory; TMA and wgmma agree
/// on it. The value is the one in wgmma's descriptors. kNone: rows of any length as they are.
enum class Swizzle : std::uint64_t { kNone = 0, k128 = 1, k64 = 2, k32 = 3 };

}  // namespace hew::kernels::hopper
