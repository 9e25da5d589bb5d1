#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/tensor.h"

namespace hew::dist {

/// XXH64 (Y. Collet, xxHash specification 0.8): 64 bits, several GB/s; finds accidents, not
/// attacks.
std::uint64_t xxh64(std::span<const std::byte> bytes, std::uint64_t seed = 0);

/// Hash of a tensor's shape, dtype and bytes.
std::uint64_t hash_of(const Tensor& tensor);

}  // namespace hew::dist
