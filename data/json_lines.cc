#include "data/json_lines.h"

#include "core/error.h"
#include "data/text_lines.h"

namespace hew {

JsonLine::JsonLine(const std::string& path, std::int64_t number, const std::string& text)
    : where_(fmt::format("{}:{}", path, number)),
      object_(nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false)) {
  require<DataError>(object_.is_object(), "{}: not a JSON object", where_);
}

std::string JsonLine::text(const std::string& key) const {
  const auto found = object_.find(key);
  require<DataError>(found != object_.end() && found->is_string(), "{}: has no text '{}'", where_,
                     key);
  return found->get<std::string>();
}

void for_each_json_line(const std::string& path,
                        const std::function<bool(const JsonLine&)>& action) {
  const TextInputs inputs({path});
  TextLine line;
  for (LineReader lines(inputs, Documents::kFile); lines.next(line);) {
    if (line.text.find_first_not_of(" \t\r\n") == std::string::npos)
      continue;
    if (!action(JsonLine(path, line.number, line.text)))
      return;
  }
}

}  // namespace hew
