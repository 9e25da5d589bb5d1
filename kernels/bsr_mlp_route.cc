#include "kernels/bsr_mlp_route.h"

#include <algorithm>
#include <cmath>

namespace hew::kernels {
namespace {

// Fitted to what an H100 was measured to take; what a tile's boxes, hidden strips and ends take
// adds up.
constexpr double kProcessors = 132;
constexpr double kMemory = 2.8e12;     // bytes/s of device memory
constexpr double kLoads = 47.6e9;      // bytes/s of boxes into one shared memory
constexpr double kClock = 1.7e9;       // cycles/s
constexpr double kSharedMemory = 128;  // bytes a cycle
constexpr double kLaunch = 4e-6;       // s
constexpr double kTile = 5e-6;         // s, the beginning and the end of a tile
// Of what a product's activation takes, the share that nothing hides.
constexpr double kExposed = 0.8;

double box_bytes(const BsrMlpProblem& p) {
  return 2.0 * 64 * static_cast<double>(std::min<std::int64_t>(p.up.block, 64));
}

// What a multiprocessor needs for the activation of one element.
double activation_seconds(Activation activation) {
  constexpr double kPer = 1.0 / (128 * 256);
  switch (activation) {
    case Activation::kGelu:
      return 5.3e-6 * kPer;
    case Activation::kGeluTanh:
      return 4e-6 * kPer;
    case Activation::kSilu:
      return 2.7e-6 * kPer;
    default:
      return 0.6e-6 * kPer;
  }
}

// A box is written to shared memory once and read once with the tokens that it meets.
double box_seconds(const BsrMlpProblem& p) {
  const double tokens = static_cast<double>(p.tile_tokens);
  const double multiply = box_bytes(p) * (2 + tokens / 64) / kSharedMemory / kClock;
  return std::max(box_bytes(p) / kLoads, multiply);
}

double fused_seconds(const BsrMlpProblem& p) {
  const auto tokens = static_cast<double>(p.tile_tokens);
  const double activate =
      static_cast<double>(p.hidden_strips) * 64 * tokens * activation_seconds(p.activation);
  const double tile = kTile + activate + static_cast<double>(p.boxes) * box_seconds(p);
  const double all = static_cast<double>(p.up.tokens);
  const double rounds = std::ceil(std::ceil(all / tokens) / kProcessors);
  const double memory = 2 * all * static_cast<double>(p.up.cols + p.down.rows) / kMemory;
  return std::max(memory, rounds * tile) + kLaunch;
}

double product_seconds(const BsrProblem& p) {
  return estimated_seconds(cheapest_route(p), p);
}

double products_seconds(const BsrMlpProblem& p) {
  const double activate = static_cast<double>(p.up.tokens) * static_cast<double>(p.up.rows) *
                          activation_seconds(p.activation) / kProcessors;
  return product_seconds(p.up) + product_seconds(p.down) + kExposed * activate;
}

}  // namespace

double estimated_seconds(BsrMlpRoute route, const BsrMlpProblem& p) {
  return route == BsrMlpRoute::kFused ? fused_seconds(p) : products_seconds(p);
}

BsrMlpRoute cheapest_route(const BsrMlpProblem& p) {
  return estimated_seconds(BsrMlpRoute::kFused, p) < estimated_seconds(BsrMlpRoute::kProducts, p)
             ? BsrMlpRoute::kFused
             : BsrMlpRoute::kProducts;
}

}  // namespace hew::kernels
