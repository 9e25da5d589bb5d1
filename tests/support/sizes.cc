#include "tests/support/sizes.h"

#include <algorithm>
#include <cstdlib>
#include <string_view>

namespace hew::test {

bool small_sizes() {
  static const bool small = [] {
    const char* wanted = std::getenv("HEW_TEST_SIZES");
    return wanted != nullptr && std::string_view(wanted) == "small";
  }();
  return small;
}

std::int64_t cut(std::int64_t count, std::int64_t most) {
  return small_sizes() ? std::min(count, most) : count;
}

}  // namespace hew::test
