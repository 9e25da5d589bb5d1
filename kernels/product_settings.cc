#include "kernels/product_settings.h"

#include <algorithm>
#include <charconv>
#include <iterator>

#include "core/error.h"

namespace hew::kernels {
namespace {

constexpr std::string_view kFormat = "hew-product-choices 1";

constexpr std::array kFields{&ProductKey::library,
                             &ProductKey::architecture,
                             &ProductKey::multiprocessors,
                             &ProductKey::op,
                             &ProductKey::dtype,
                             &ProductKey::tf32,
                             &ProductKey::deterministic,
                             &ProductKey::activation,
                             &ProductKey::accumulate,
                             &ProductKey::remake,
                             &ProductKey::m,
                             &ProductKey::n,
                             &ProductKey::k,
                             &ProductKey::align_a,
                             &ProductKey::align_b,
                             &ProductKey::align_out,
                             &ProductKey::align_bias,
                             &ProductKey::align_pre};
static_assert(sizeof(ProductKey) == kFields.size() * sizeof(std::int64_t), "a field is missing");

// The words of one line, each taken as a number.
class Line {
 public:
  Line(std::string_view text, std::int64_t number) : rest_(text), number_(number) {}

  template <class Integer>
  Integer next(int base) {
    const auto begin = std::min(rest_.find_first_not_of(' '), rest_.size());
    rest_.remove_prefix(begin);
    Integer value{};
    const auto [end, error] =
        std::from_chars(rest_.data(), rest_.data() + rest_.size(), value, base);
    const auto length = static_cast<std::size_t>(end - rest_.data());
    if (error != std::errc() || (length < rest_.size() && rest_[length] != ' '))
      fail();
    rest_.remove_prefix(length);
    return value;
  }
  void finish() const {
    if (!rest_.empty())
      fail();
  }

 private:
  [[noreturn]] void fail() const {
    throw DataError(fmt::format("[product choices] line {} is not a choice", number_));
  }

  std::string_view rest_;
  std::int64_t number_;
};

}  // namespace

std::string ProductSettings::export_choices() const {
  std::string text(kFormat);
  text += '\n';
  for (const auto& [key, choice] : choices) {
    for (const auto field : kFields) fmt::format_to(std::back_inserter(text), "{} ", key.*field);
    fmt::format_to(std::back_inserter(text), "{}", choice.epilogue);
    for (const std::uint64_t word : choice.algorithm) {
      fmt::format_to(std::back_inserter(text), " {:016x}", word);
    }
    text += '\n';
  }
  return text;
}

void ProductSettings::import_choices(std::string_view text) {
  std::map<ProductKey, ProductChoice> read;
  for (std::int64_t number = 1; !text.empty(); ++number) {
    const std::string_view words = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(words.size() + 1, text.size()));
    if (number == 1) {
      require<DataError>(words == kFormat,
                         "[product choices] the first line is '{}', expected '{}'", words, kFormat);
      continue;
    }
    Line line(words, number);
    ProductKey key;
    for (const auto field : kFields) key.*field = line.next<std::int64_t>(10);
    ProductChoice choice{.epilogue = line.next<std::uint32_t>(10)};
    for (std::uint64_t& word : choice.algorithm) word = line.next<std::uint64_t>(16);
    line.finish();
    read[key] = choice;
  }
  for (const auto& [key, choice] : read) choices[key] = choice;
}

}  // namespace hew::kernels
