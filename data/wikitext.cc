#include "data/wikitext.h"

#include <array>
#include <sstream>

#include "core/error.h"
#include "data/text_lines.h"

namespace hew {
namespace {

constexpr std::string_view kSpaces = " \t\n\v\f\r";

struct Replacement {
  std::string_view from;
  std::string_view to;
};

constexpr std::array<Replacement, 10> kPunctuation = {{{"s '", "s'"},
                                                       {" @-@ ", "-"},
                                                       {" @,@ ", ","},
                                                       {" @.@ ", "."},
                                                       {" : ", ": "},
                                                       {" ; ", "; "},
                                                       {" . ", ". "},
                                                       {" ! ", "! "},
                                                       {" ? ", "? "},
                                                       {" , ", ", "}}};
constexpr std::array<std::string_view, 5> kEnclosures = {"()", "[]", "{}", "\"\"", "''"};
constexpr std::array<Replacement, 8> kRest = {{{"= = = =", "===="},
                                               {"= = =", "==="},
                                               {"= =", "=="},
                                               {" \u00b0 ", "\u00b0"},
                                               {" \n", "\n"},
                                               {"\n ", "\n"},
                                               {" N ", " 1 "},
                                               {" 's", "'s"}}};

std::string replaced(std::string_view text, const Replacement& rule) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t at = text.find(rule.from); at != std::string_view::npos;
       at = text.find(rule.from)) {
    out.append(text.substr(0, at)).append(rule.to);
    text.remove_prefix(at + rule.from.size());
  }
  return out.append(text);
}

std::string_view stripped(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(kSpaces);
  if (begin == std::string_view::npos)
    return {};
  return text.substr(begin, text.find_last_not_of(kSpaces) + 1 - begin);
}

// Strips what lies between an opening sign and the next closing one.
std::string tightened(std::string_view text, char open, char close) {
  std::string out;
  out.reserve(text.size());
  while (true) {
    const std::size_t begin = text.find(open);
    const std::size_t end = begin == std::string_view::npos ? begin : text.find(close, begin + 1);
    if (end == std::string_view::npos)
      return out.append(text);
    out.append(text.substr(0, begin + 1));
    out.append(stripped(text.substr(begin + 1, end - begin - 1))).append(1, close);
    text.remove_prefix(end + 1);
  }
}

// Whether a line is a heading of the first level.
bool begins_article(std::string_view line) {
  const std::string joined = replaced(replaced(line, {"= = =", "==="}), {"= =", "=="});
  const std::string_view heading = stripped(joined);
  return heading.starts_with("= ") && heading.ends_with(" =");
}

std::int64_t count_words(const std::string& text) {
  std::istringstream words(text);
  std::int64_t count = 0;
  for (std::string word; words >> word;) ++count;
  return count;
}

void add_article(const std::string& text, std::vector<WikitextArticle>& articles) {
  if (stripped(text).empty())
    return;
  articles.push_back(
      {.text = detokenize_wikitext(text), .words = count_words(text), .bytes = std::ssize(text)});
}

}  // namespace

std::string detokenize_wikitext(std::string_view article) {
  std::string text(article);
  for (const Replacement& rule : kPunctuation) text = replaced(text, rule);
  for (const std::string_view pair : kEnclosures) text = tightened(text, pair[0], pair[1]);
  for (const Replacement& rule : kRest) text = replaced(text, rule);
  return text;
}

std::vector<WikitextArticle> read_wikitext(const std::string& path, std::int64_t limit) {
  const TextInputs inputs({path});
  std::vector<WikitextArticle> articles;
  std::string text;
  TextLine line;
  LineReader lines(inputs, Documents::kFile, /*require_utf8=*/true);
  while (lines.next(line)) {
    if (begins_article(line.text)) {
      if (text.ends_with('\n'))
        text.pop_back();  // it separates articles
      add_article(text, articles);
      text.clear();
      if (limit > 0 && std::ssize(articles) == limit)
        return articles;
    }
    text += line.text;
  }
  add_article(text, articles);
  require<DataError>(!articles.empty(), "{}: holds no text", path);
  return articles;
}

}  // namespace hew
