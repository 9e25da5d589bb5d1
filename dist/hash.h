#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/tensor.h"

namespace hew::dist {

/// XXH64 (Y. Collet, xxHash specification 0.8): 64 bits, several GB/s; finds accidents, not
/// attacks.
std::uint64_t xxh64(std::span<const std::byte> bytes, std::uint64_t seed = 0);

/// Of each tensor a hash of shape, dtype and bytes, the same wherever they lie; computed there
/// (kernels::hash_words), so that 8 bytes a tensor come to the host. Tensors may be mixed of the
/// host's and one GPU's.
std::vector<std::uint64_t> hashes_of(std::span<const Tensor> tensors);

}  // namespace hew::dist
