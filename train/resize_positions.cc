#include "train/resize_positions.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace hew::train {
namespace {

// What one output cell takes from the inputs begin, begin + 1, ….
struct Taps {
  std::int64_t begin = 0;
  std::vector<double> weights;
};

double cubic(double x) {
  constexpr double kA = -0.5;
  const double d = std::abs(x);
  if (d < 1)
    return ((kA + 2) * d - (kA + 3)) * d * d + 1;
  if (d < 2)
    return ((kA * d - 5 * kA) * d + 8 * kA) * d - 4 * kA;
  return 0;
}

// At the edges the kernel is cut off, and what is left adds up to 1 again.
std::vector<Taps> taps_of(std::int64_t from, std::int64_t to) {
  constexpr double kReach = 2;  // of the kernel
  const double scale = static_cast<double>(from) / static_cast<double>(to);
  const double stretch = std::max(1.0, scale);
  std::vector<Taps> out;
  for (std::int64_t i = 0; i < to; ++i) {
    const double center = scale * (static_cast<double>(i) + 0.5);
    const double reach = kReach * stretch;
    Taps taps{.begin = std::max<std::int64_t>(0, std::llround(center - reach)), .weights = {}};
    const auto end = std::min<std::int64_t>(from, std::llround(center + reach));
    double sum = 0;
    for (std::int64_t j = taps.begin; j < end; ++j) {
      taps.weights.push_back(cubic((static_cast<double>(j) - center + 0.5) / stretch));
      sum += taps.weights.back();
    }
    for (double& weight : taps.weights) weight /= sum;
    out.push_back(std::move(taps));
  }
  return out;
}

// in [lines, from, width] → [lines, to, width], each line by the taps.
std::vector<double> resized(const std::vector<double>& in, std::int64_t lines, std::int64_t from,
                            const std::vector<Taps>& taps, std::int64_t width) {
  std::vector<double> out;
  out.reserve(in.size() / static_cast<std::size_t>(from) * taps.size());
  for (std::int64_t line = 0; line < lines; ++line) {
    for (const Taps& cell : taps) {
      for (std::int64_t c = 0; c < width; ++c) {
        double sum = 0;
        std::int64_t at = (line * from + cell.begin) * width + c;
        for (const double weight : cell.weights) {
          sum += weight * in[static_cast<std::size_t>(at)];
          at += width;
        }
        out.push_back(sum);
      }
    }
  }
  return out;
}

}  // namespace

Tensor resize_positions(const Tensor& table, std::int64_t first, std::int64_t from,
                        std::int64_t to) {
  if (from == to)
    return table;
  const std::int64_t width = table.size(1);
  const auto all = table.to_vector<float>();
  const std::vector<double> grid(all.begin() + first * width, all.end());
  const std::vector<Taps> taps = taps_of(from, to);
  // [from, from, C] → [from, to, C] → [to, to, C]: in the second pass a line is a whole row.
  const std::vector<double> wide = resized(grid, from, from, taps, width);
  const std::vector<double> both = resized(wide, 1, from, taps, to * width);
  std::vector<float> out(all.begin(), all.begin() + first * width);
  out.insert(out.end(), both.begin(), both.end());
  return Tensor::from(out, {first + to * to, width}, table.stream());
}

}  // namespace hew::train
