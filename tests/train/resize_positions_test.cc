#include "train/resize_positions.h"

#include <doctest/doctest.h>

#include <cmath>

#include "tests/support/compare.h"

namespace hew::test {
namespace {

constexpr std::int64_t kWidth = 2;

// Channel 0 is f(row, column), channel 1 is a constant; `first` rows of 9 in front.
template <class F>
Tensor table_of(std::int64_t first, std::int64_t side, const F& f) {
  std::vector<float> values(static_cast<std::size_t>(first * kWidth), 9.0F);
  for (std::int64_t i = 0; i < side; ++i) {
    for (std::int64_t j = 0; j < side; ++j) {
      values.push_back(static_cast<float>(f(static_cast<double>(i), static_cast<double>(j))));
      values.push_back(3.0F);
    }
  }
  return Tensor::from(values, {first + side * side, kWidth}, make_cpu_stream());
}

// Channel 0 of the grid after the resize.
std::vector<float> resized_channel(std::int64_t first, std::int64_t from, std::int64_t to) {
  const Tensor out = train::resize_positions(
      table_of(first, from,
               [](double i, double j) {
                 return std::sin(1.3 * i + 0.2) * std::cos(0.7 * j) + 0.1 * i * j;
               }),
      first, from, to);
  CHECK(out.shape() == Shape{first + to * to, kWidth});
  const auto values = out.to_vector<float>();
  std::vector<float> channel;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (i < static_cast<std::size_t>(first * kWidth)) {
      CHECK(values[i] == 9.0F);
    } else if (i % kWidth == 0) {
      channel.push_back(values[i]);
    } else {
      CHECK(values[i] == doctest::Approx(3.0));
    }
  }
  return channel;
}

void check_close(const std::vector<float>& actual, const std::vector<float>& expected) {
  const Stream cpu = make_cpu_stream();
  const auto size = std::ssize(expected);
  HEW_CHECK_CLOSE(Tensor::from(actual, {std::ssize(actual)}, cpu),
                  Tensor::from(expected, {size}, cpu), 1e-5, 1e-6);
}

}  // namespace

TEST_CASE("positions become those that Pillow's bicubic filter gives, growing and shrinking") {
  const std::vector<float> grown = resized_channel(1, 4, 7);
  // The first, a middle and the last row of 7.
  check_close({grown.begin(), grown.begin() + 7}, {0.1384542F, 0.1266704F, 0.1000668F, 0.05505912F,
                                                   -7.692681e-05F, -0.06550575F, -0.09997628F});
  check_close(
      {grown.begin() + 21, grown.begin() + 28},
      {0.7910525F, 0.7897421F, 0.7642828F, 0.6150903F, 0.4068913F, 0.1552403F, 0.02175993F});
  check_close({grown.end() - 7, grown.end()}, {-0.9511605F, -0.7845498F, -0.4376006F, 0.01167313F,
                                               0.5290495F, 1.13706F, 1.456216F});
  check_close(resized_channel(0, 7, 3), {0.5327731F, -0.05759596F, -0.1140719F, -0.1293193F,
                                         1.095444F, 1.937873F, 0.6768149F, 1.415862F, 2.485152F});
}

TEST_CASE("a grid of the same size stays as it is, one of one cell fills any other") {
  const Tensor table = table_of(1, 3, [](double i, double j) { return 3 * i - j; });
  CHECK(train::resize_positions(table, 1, 3, 3).to_vector<float>() == table.to_vector<float>());
  const Tensor one = table_of(0, 1, [](double, double) { return 0.5; });
  const Tensor many = train::resize_positions(one, 0, 1, 5);
  for (std::int64_t i = 0; i < 25; ++i) {
    CHECK(many.rows(i, 1).to_vector<float>() == std::vector<float>{0.5F, 3.0F});
  }
}

}  // namespace hew::test
