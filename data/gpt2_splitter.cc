#include "data/gpt2_splitter.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <array>
#include <string>

#include "core/error.h"
#include "core/handle.h"

namespace hew {
namespace {

struct MatchTraits {
  using Value = pcre2_match_data*;
  static Value null() { return nullptr; }
  static void destroy(Value value) noexcept { pcre2_match_data_free(value); }
};

std::string message_of(int code) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return std::string(text.begin(), std::find(text.begin(), text.end(), PCRE2_UCHAR{0}));
}

/// Unicode's White_Space. PCRE's own \s also has U+180E, which is no space since Unicode 6.3.
constexpr std::string_view kSpaces =
    R"(\x09-\x0d\x20\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";

}  // namespace

Gpt2Splitter::Gpt2Splitter() {
  // '(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
  const std::string pattern = fmt::format(
      R"('(?:[sdmt]|ll|ve|re)| ?\p{{L}}++| ?\p{{N}}++| ?[^{0}\p{{L}}\p{{N}}]++|[{0}]+(?![^{0}])|[{0}]+)",
      kSpaces);
  int code = 0;
  std::size_t where = 0;
  pcre2_code* compiled = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                       PCRE2_UTF | PCRE2_UCP, &code, &where, nullptr);
  if (compiled == nullptr)
    throw BackendError("pcre2_compile", code, message_of(code));
  pattern_ =
      std::shared_ptr<const void>(compiled, [compiled](const void*) { pcre2_code_free(compiled); });
  pcre2_jit_compile(compiled, PCRE2_JIT_COMPLETE);  // without it matching is only slower
}

void Gpt2Splitter::split(std::string_view text,
                         const std::function<void(std::string_view)>& word) const {
  const auto* pattern = static_cast<const pcre2_code*>(pattern_.get());
  const UniqueHandle<MatchTraits> match(pcre2_match_data_create_from_pattern(pattern, nullptr));
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  std::uint32_t checked = 0;  // the first match checks all of the text
  for (std::size_t begin = 0; begin < text.size();) {
    const int code =
        pcre2_match(pattern, subject, text.size(), begin, checked, match.get(), nullptr);
    require<DataError>(code > PCRE2_ERROR_UTF8_ERR1 || code < PCRE2_ERROR_UTF8_ERR21,
                       "[gpt2] text is not UTF-8 at byte {}", pcre2_get_startchar(match.get()));
    const std::size_t* bounds = pcre2_get_ovector_pointer(match.get());
    if (code < 0 || bounds[0] != begin) {
      throw BackendError("pcre2_match", code, code < 0 ? message_of(code) : "left a gap");
    }
    word(text.substr(begin, bounds[1] - begin));
    begin = bounds[1];
    checked = PCRE2_NO_UTF_CHECK;
  }
}

}  // namespace hew
