#include "data/lambada.h"

#include <functional>

#include "core/error.h"
#include "data/json_lines.h"
#include "data/text_lines.h"

namespace hew {
namespace {

LastWord split_last_word(const std::string& text, const std::string& where) {
  const std::size_t space = text.rfind(' ');
  const std::size_t last =
      space == std::string::npos ? space : text.find_last_not_of(" \t\r\n", space);
  require<DataError>(last != std::string::npos && space + 1 < text.size(),
                     "{}: expected a passage, a space and its last word", where);
  return {.passage = text.substr(0, last + 1), .word = text.substr(last + 1), .where = where};
}

// Takes a passage; false: that is enough.
using Take = std::function<bool(const std::string& text, const std::string& where)>;

void read_plain(const std::string& path, const Take& take) {
  const TextInputs inputs({path});
  TextLine line;
  for (LineReader lines(inputs, Documents::kFile, /*require_utf8=*/true); lines.next(line);) {
    const std::size_t last = line.text.find_last_not_of(" \t\r\n");
    if (last == std::string::npos)
      continue;
    if (!take(line.text.substr(0, last + 1), fmt::format("{}:{}", path, line.number)))
      return;
  }
}

}  // namespace

std::vector<LastWord> read_lambada(const std::string& path, std::int64_t limit) {
  std::vector<LastWord> passages;
  const Take take = [&](const std::string& text, const std::string& where) {
    passages.push_back(split_last_word(text, where));
    return std::ssize(passages) != limit;
  };
  if (path.ends_with(".jsonl")) {
    for_each_json_line(path,
                       [&](const JsonLine& line) { return take(line.text("text"), line.where()); });
  } else {
    read_plain(path, take);
  }
  require<DataError>(!passages.empty(), "{}: holds no passage", path);
  return passages;
}

}  // namespace hew
