#include "kernels/product_settings.h"

#include <doctest/doctest.h>

#include "core/error.h"

namespace hew {

using kernels::ProductKey;
using kernels::ProductSettings;

namespace {

ProductSettings two_choices(const Stream& stream) {
  ProductSettings settings(stream);
  settings.choices[{.library = 130101, .architecture = 90, .m = std::int64_t{1} << 40, .n = 7}] = {
      .epilogue = 164, .algorithm = {1, 0xfedcba9876543210, 0, 0, 0, 0, 0, ~std::uint64_t{0}}};
  settings.choices[{.library = 120000, .op = 2, .align_pre = 16}] = {.epilogue = 1,
                                                                     .verified = true};
  settings.choices[{.library = 120000, .op = 2, .remake = 1, .align_pre = 16}] = {.epilogue = 2};
  return settings;
}

}  // namespace

TEST_CASE("choices of products come back from their text") {
  const Stream cpu = make_cpu_stream();
  const ProductSettings settings = two_choices(cpu);
  const std::string text = settings.export_choices();
  ProductSettings other(cpu);
  other.choices[{.library = 120000, .op = 2, .align_pre = 16}] = {.epilogue = 512};
  other.import_choices(text);
  REQUIRE(other.choices.size() == 3);
  for (const auto& [key, choice] : settings.choices) {
    REQUIRE(other.choices.count(key) == 1);
    CHECK(other.choices.at(key).epilogue == choice.epilogue);
    CHECK(other.choices.at(key).algorithm == choice.algorithm);
    CHECK_FALSE(other.choices.at(key).verified);
  }
  CHECK(other.export_choices() == text);
}

TEST_CASE("no choices are no text but the first line") {
  const Stream cpu = make_cpu_stream();
  ProductSettings settings(cpu);
  settings.import_choices("");
  settings.import_choices(settings.export_choices());
  CHECK(settings.choices.empty());
}

TEST_CASE("damaged choices are refused whole") {
  const Stream cpu = make_cpu_stream();
  const std::string text = two_choices(cpu).export_choices();
  ProductSettings settings(cpu);
  CHECK_THROWS_AS(settings.import_choices(text.substr(1)), DataError);
  CHECK_THROWS_AS(settings.import_choices(text.substr(0, text.size() - 40)), DataError);
  CHECK_THROWS_AS(settings.import_choices(text + "1 2 3\n"), DataError);
  std::string planted = text;
  planted[planted.size() - 3] = 'x';
  CHECK_THROWS_AS(settings.import_choices(planted), DataError);
  planted = text;
  planted.insert(planted.size() - 1, " 5");
  CHECK_THROWS_AS(settings.import_choices(planted), DataError);
  CHECK(settings.choices.empty());
}

}  // namespace hew
