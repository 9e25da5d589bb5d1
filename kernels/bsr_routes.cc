#include "kernels/bsr_routes.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <iterator>
#include <utility>
#include <vector>

#include "core/error.h"

namespace hew::kernels {
namespace {

constexpr std::string_view kFormat = "hew-bsr-routes 1 ";
constexpr std::string_view kTf32 = "tf32";
constexpr std::int64_t kTokensApart = 2;  // the most that counts of tokens may differ, as a factor

std::string_view word_of(const BsrRouteKey& key) {
  return key.tf32 ? kTf32 : name_of(key.dtype);
}

std::vector<std::string_view> words_of(std::string_view line) {
  std::vector<std::string_view> words;
  for (;;) {
    line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
    if (line.empty())
      return words;
    words.push_back(line.substr(0, line.find(' ')));
    line.remove_prefix(words.back().size());
  }
}

template <class Number>
bool read(std::string_view word, Number& value) {
  const char* const last = word.data() + word.size();
  const auto [end, error] = std::from_chars(word.data(), last, value);
  return error == std::errc() && end == last;
}

bool read(std::string_view word, BsrRouteKey& key) {
  key.tf32 = word == kTf32;
  if (key.tf32) {
    key.dtype = DType::kFloat32;
    return true;
  }
  for (const DType dtype : {DType::kBFloat16, DType::kFloat32, DType::kFloat64}) {
    key.dtype = dtype;
    if (word == name_of(dtype))
      return true;
  }
  return false;
}

struct Line {
  BsrRouteKey key;
  std::int64_t tokens = 0;
  double density = 0;
  BsrRouteTimes times;
};

std::optional<Line> parse(std::string_view text) {
  constexpr std::size_t kWords = 9;
  const std::vector<std::string_view> words = words_of(text);
  if (words.size() != kWords)
    return std::nullopt;
  const std::optional<BsrProduct> product = parse_named<BsrProduct>(words[0]);
  Line line;
  const bool numbers = product && read(words[1], line.key) && read(words[2], line.key.rows) &&
                       read(words[3], line.key.cols) && read(words[4], line.key.block) &&
                       read(words[5], line.tokens) && read(words[6], line.density) &&
                       read(words[7], line.times.own) && read(words[8], line.times.folded);
  if (!numbers)
    return std::nullopt;
  line.key.product = *product;
  const bool sizes = std::min({line.key.rows, line.key.cols, line.key.block, line.tokens}) >= 1;
  const bool share = line.density >= 0 && line.density <= 1;
  const auto duration = [](double seconds) { return seconds > 0 && std::isfinite(seconds); };
  if (!sizes || !share || !duration(line.times.own) || !duration(line.times.folded))
    return std::nullopt;
  return line;
}

double log_ratio(const BsrRouteTimes& times) {
  return std::log(times.own / times.folded);
}

}  // namespace

BsrRouteKey key_of(const BsrProblem& p) {
  return {.product = p.product,
          .dtype = p.dtype,
          .tf32 = p.tf32 && p.dtype == DType::kFloat32,
          .rows = p.rows,
          .cols = p.cols,
          .block = p.block};
}

BsrRoutes BsrRoutes::from_text(std::string_view text, std::string_view name) {
  const auto next_line = [&text] {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    return line;
  };
  const std::string_view head = next_line();
  require<DataError>(head.starts_with(kFormat) && head.size() > kFormat.size(),
                     "{}:1: got '{}', expected '{}DEVICE', as hew bench tune writes it", name, head,
                     kFormat);
  BsrRoutes routes{std::string(head.substr(kFormat.size()))};
  for (std::int64_t number = 2; !text.empty(); ++number) {
    const std::string_view line = next_line();
    const std::optional<Line> parsed = parse(line);
    require<DataError>(parsed.has_value(),
                       "{}:{}: got '{}', expected PRODUCT DTYPE N K BLOCK TOKENS DENSITY OWN "
                       "FOLDED, the last two in seconds",
                       name, number, line);
    routes.add(parsed->key, parsed->tokens, parsed->density, parsed->times);
  }
  return routes;
}

std::string BsrRoutes::to_text() const {
  std::string text = fmt::format("{}{}\n", kFormat, device_);
  for (const auto& [key, by_tokens] : measured_) {
    for (const auto& [tokens, by_density] : by_tokens) {
      for (const auto& [density, times] : by_density) {
        fmt::format_to(std::back_inserter(text), "{} {} {} {} {} {} {} {} {}\n",
                       hew::name_of(key.product), word_of(key), key.rows, key.cols, key.block,
                       tokens, density, times.own, times.folded);
      }
    }
  }
  return text;
}

void BsrRoutes::add(const BsrProblem& problem, const BsrRouteTimes& times) {
  add(key_of(problem), problem.tokens, problem.density(), times);
}

void BsrRoutes::add(const BsrRouteKey& key, std::int64_t tokens, double density,
                    const BsrRouteTimes& times) {
  measured_[key][tokens][density] = times;
}

std::optional<double> BsrRoutes::ratio(const BsrProblem& problem) const {
  const auto found = measured_.find(key_of(problem));
  if (found == measured_.end())
    return std::nullopt;
  const auto apart = [&problem](std::int64_t tokens) {
    return std::abs(std::log(static_cast<double>(tokens) / static_cast<double>(problem.tokens)));
  };
  const auto& [tokens, by_density] = *std::min_element(
      found->second.begin(), found->second.end(),
      [&](const auto& a, const auto& b) { return apart(a.first) < apart(b.first); });
  if (std::max(tokens, problem.tokens) > kTokensApart * std::min(tokens, problem.tokens))
    return std::nullopt;
  const double density = problem.density();
  const auto above = by_density.lower_bound(density);
  if (above == by_density.begin())
    return std::exp(log_ratio(above->second));
  const auto below = std::prev(above);
  if (above == by_density.end())
    return std::exp(log_ratio(below->second));
  const double share = (density - below->first) / (above->first - below->first);
  return std::exp(std::lerp(log_ratio(below->second), log_ratio(above->second), share));
}

bool BsrSettings::use(BsrRoutes measured, std::string_view device) {
  routes_count = measured.device() == device;
  routes = std::move(measured);
  return routes_count;
}

bool BsrSettings::folds(const BsrProblem& problem) const {
  if (folding != BsrFolding::kAuto)
    return folding == BsrFolding::kFolded;
  if (routes_count) {
    if (const std::optional<double> ratio = routes->ratio(problem))
      return *ratio > 1;
  }
  return cheapest_route(problem) == BsrRoute::kFolded;
}

}  // namespace hew::kernels
