#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace hew::train {

/// JSON on one line. Bytes that are no UTF-8, as names of files may have, become U+FFFD, since JSON
/// has no others.
template <class Json>
std::string json_line(const Json& json) {
  return json.dump(/*indent=*/-1, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace);
}

}  // namespace hew::train
