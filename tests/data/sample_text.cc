#include "tests/data/sample_text.h"

#include <fmt/format.h>

#include <array>
#include <cstdlib>

#include "core/rng.h"
#include "tests/io/scratch.h"

namespace hew::test {

std::string sample_lines(int count, std::uint64_t seed) {
  static constexpr std::array kWords = {
      "the",   "and",    "of",     "beginning", "earth",   "waters", "light",   "darkness",
      "made",  "called", "saw",    "day",       "night",   "first",  "evening", "morning",
      "was",   "were",   "upon",   "face",      "without", "form",   "void",    "spirit",
      "moved", "divide", "heaven", "firmament", "midst",   "let",    "there",   "be"};
  std::string text;
  std::uint64_t draw = 0;
  for (int line = 0; line < count; ++line) {
    text += fmt::format("{}", line + 1);
    const std::uint64_t words = 5 + uniform_below(seed, 0, draw++, 10);
    for (std::uint64_t i = 0; i < words; ++i) {
      text += fmt::format(" {}", kWords[uniform_below(seed, 0, draw++, kWords.size())]);
    }
    text += line % 7 == 0 ? "...\n" : ".\n";
  }
  return text;
}

std::string unicode_sample() {
  return "I'm sure they'll've said: \"don't\"  twice!\n\n\tTabs,   runs of spaces   \n"
         "caf\u00e9 na\u00efve \u0645\u0631\u062d\u0628\u0627 "
         "\u4f60\u597d\uff0c\u4e16\u754c 12\u00b2\u00bd \u0663\u0664 \u2167 "
         "\u00a0\u2003wide\u3000space\u180evowel \U0001F600\U0001F469\u200d\U0001F4BB "
         "e\u0301 \u0928\u092e\u0938\u094d\u0924\u0947 'S 'LL x'\u017f  end  ";
}

void write_small_gpt2(const std::filesystem::path& encoder_json,
                      const std::filesystem::path& vocab_bpe) {
  std::string entries;
  int next = 0;
  const auto add = [&](const std::string& key) {
    entries += fmt::format("{}\"{}\": {}", next == 0 ? "" : ", ", key, next);
    ++next;
  };
  const auto key_of = [](unsigned point) {  // below 0x800
    if (point < 0x80)
      return std::string(1, static_cast<char>(point));
    return std::string{static_cast<char>(0xc0U | (point >> 6U)),
                       static_cast<char>(0x80U | (point & 0x3fU))};
  };
  for (unsigned byte = 33; byte < 256; ++byte) {
    if ((byte > 126 && byte < 161) || byte == 173)
      continue;
    add(fmt::format("{}{}", byte == '"' || byte == '\\' ? "\\" : "", key_of(byte)));
  }
  constexpr unsigned kHidden = 68;  // bytes that do not print
  for (unsigned i = 0; i < kHidden; ++i) add(key_of(256 + i));
  std::string merges = "#version: 0.2\n";
  const std::string space = key_of(256 + 32);
  const std::array<std::array<std::string, 2>, 9> pairs = {{{"t", "h"},
                                                            {"th", "e"},
                                                            {space, "the"},
                                                            {space, "th"},
                                                            {"a", "n"},
                                                            {"an", "d"},
                                                            {"e", "r"},
                                                            {"h", "e"},
                                                            {space + "th", "er"}}};
  for (const auto& [left, right] : pairs) {
    merges += fmt::format("{} {}\n", left, right);
    add(left + right);
  }
  add("<|endoftext|>");
  write_bytes(encoder_json, fmt::format("{{{}}}", entries));
  write_bytes(vocab_bpe, merges);
}

std::optional<std::string> shared_text(const std::string& name) {
  const char* named = std::getenv("HEW_SHARED_DATA");
  const std::filesystem::path root =
      named != nullptr ? named : std::filesystem::path(HEW_SOURCE_DIR) / "../shared/data";
  const auto path = root / "text" / name;
  if (!std::filesystem::exists(path))
    return std::nullopt;
  const Scratch scratch;
  const auto copy = scratch / "text";
  const std::string command = fmt::format("xz -dc '{}' > '{}'", path.string(), copy.string());
  if (std::system(command.c_str()) != 0)
    return std::nullopt;
  return read_bytes(copy);
}

}  // namespace hew::test
