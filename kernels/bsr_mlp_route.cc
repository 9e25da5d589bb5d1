#include "kernels/bsr_mlp_route.h"

#include <algorithm>
#include <cmath>

namespace hew::kernels {
namespace {

constexpr double kProcessors = 132;
constexpr double kMemory = 2.8e12;               // bytes/s of device memory
constexpr double kLoads = 7.8e12 / kProcessors;  // bytes/s from L2 into one shared memory
constexpr double kClock = 1.7e9;                 // cycles/s
constexpr double kSharedMemory = 128;            // bytes a cycle
constexpr double kLaunch = 4e-6;                 // s
constexpr double kTile = 1.5e-6;                 // s, the beginning and the end of a tile
// Of what does not bind, a part is exposed.
constexpr double kExposed = 0.25;

double box_bytes(const BsrMlpProblem& p) {
  return 2.0 * 64 * static_cast<double>(std::min<std::int64_t>(p.up.block, 64));
}

// What a multiprocessor needs for the activation of one element.
double activation_seconds(Activation activation) {
  constexpr double kPer = 1.0 / (128 * 256);
  switch (activation) {
    case Activation::kGelu:
      return 2.9e-6 * kPer;
    case Activation::kGeluTanh:
      return 2.2e-6 * kPer;
    case Activation::kSilu:
      return 1.5e-6 * kPer;
    default:
      return 0.3e-6 * kPer;
  }
}

// A box is written to shared memory once and read once with the tokens that it meets.
double multiply_seconds(const BsrMlpProblem& p) {
  const double tokens = static_cast<double>(p.tile_tokens);
  return box_bytes(p) * (2 + tokens / 64) / kSharedMemory / kClock;
}

double fused_seconds(const BsrMlpProblem& p) {
  const auto tokens = static_cast<double>(p.tile_tokens);
  const auto boxes = static_cast<double>(p.boxes);
  const double load = boxes * box_bytes(p) / kLoads;
  const double multiply = boxes * multiply_seconds(p);
  const double activate =
      static_cast<double>(p.hidden_strips) * 64 * tokens * activation_seconds(p.activation);
  const double most = std::max({load, multiply, activate});
  const double tile = most + kExposed * (load + multiply + activate - most) + kTile;
  const double all = static_cast<double>(p.up.tokens);
  const double rounds = std::ceil(std::ceil(all / tokens) / kProcessors);
  const double memory = 2 * all * static_cast<double>(p.up.cols + p.down.rows) / kMemory;
  return std::max(memory, rounds * tile) + kLaunch;
}

double product_seconds(const BsrProblem& p) {
  return estimated_seconds(cheapest_route(p), p);
}

}  // namespace

double estimated_seconds(BsrMlpRoute route, const BsrMlpProblem& p) {
  if (route == BsrMlpRoute::kFused)
    return fused_seconds(p);
  return product_seconds(p.up) + product_seconds(p.down);
}

BsrMlpRoute cheapest_route(const BsrMlpProblem& p) {
  return estimated_seconds(BsrMlpRoute::kFused, p) < estimated_seconds(BsrMlpRoute::kProducts, p)
             ? BsrMlpRoute::kFused
             : BsrMlpRoute::kProducts;
}

}  // namespace hew::kernels
