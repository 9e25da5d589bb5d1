#pragma once

#include <cstdint>

namespace hew::test {

/// True with HEW_TEST_SIZES=small in the environment: bodies then keep to at most about 10⁵
/// elements or 10⁷ multiply-adds at a time, for tools under which kernels are a thousand times
/// slower (compute-sanitizer), and still run every kernel, packed and not, over several blocks.
bool small_sizes();

/// `count`, but with small sizes at most `most`.
std::int64_t cut(std::int64_t count, std::int64_t most);

}  // namespace hew::test
