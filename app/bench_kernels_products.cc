#include <fmt/format.h>

#include <array>
#include <vector>

#include "app/bench_kernels_groups.h"
#include "kernels/attention.h"
#include "kernels/attention_settings.h"
#include "kernels/linear.h"

namespace hew {
namespace {

constexpr double kWeightDeviation = 0.02;  // GPT-2's
constexpr auto kGelu = kernels::Activation::kGeluTanh;

// y[M, N] = x[M, K]·wᵀ
struct ProductSize {
  std::string layer;
  std::int64_t m = 0;
  std::int64_t n = 0;
  std::int64_t k = 0;

  KernelWork work(const KernelTimer& timer, const std::string& kernel) const {
    return {
        .kernel = kernel,
        .shape = fmt::format("{} M={} N={} K={}", layer, m, n, k),
        .bytes = timer.bytes(m * n + m * k + n * k),
        .flops = 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k)};
  }
};

Tensor random_weight(KernelTimer& timer, const ProductSize& size) {
  return timer.random({size.n, size.k}, kWeightDeviation);
}

void time_plain(KernelTimer& timer, const ProductSize& size) {
  timer.time(size.work(timer, "linear forward"), [&] {
    return KernelCall{[x = timer.random({size.m, size.k}), w = random_weight(timer, size),
                       bias = timer.random({size.n}), y = timer.empty({size.m, size.n})]() mutable {
      kernels::linear_forward({.x = x, .w = w, .bias = bias, .y = y}, x.stream());
    }};
  });
  timer.time(size.work(timer, "linear input gradient"), [&] {
    return KernelCall{[dy = timer.random({size.m, size.n}), w = random_weight(timer, size),
                       dx = timer.empty({size.m, size.k})]() mutable {
      kernels::linear_input_gradient({.dy = dy, .w = w, .dx = dx}, dy.stream());
    }};
  });
  timer.time(size.work(timer, "linear weight gradient, dbias"), [&] {
    return KernelCall{[dy = timer.random({size.m, size.n}), x = timer.random({size.m, size.k}),
                       dw = timer.empty_sums({size.n, size.k}),
                       dbias = timer.empty_sums({size.n})]() mutable {
      kernels::linear_weight_gradient({.dy = dy, .x = x, .dw = dw, .dbias = dbias}, x.stream());
    }};
  });
}

// Of the layer in front of the activation.
void time_activated_forward(KernelTimer& timer, const ProductSize& size) {
  timer.time(size.work(timer, "linear forward, gelu, pre"), [&] {
    return KernelCall{[x = timer.random({size.m, size.k}), w = random_weight(timer, size),
                       bias = timer.random({size.n}), y = timer.empty({size.m, size.n}),
                       pre = timer.empty({size.m, size.n})]() mutable {
      kernels::linear_forward(
          {.x = x, .w = w, .bias = bias, .activation = kGelu, .y = y, .pre = pre}, x.stream());
    }};
  });
}

// Of the layer behind it.
void time_activated_gradient(KernelTimer& timer, const ProductSize& size) {
  timer.time(size.work(timer, "linear input gradient, gelu, dbias"), [&] {
    return KernelCall{[dy = timer.random({size.m, size.n}), w = random_weight(timer, size),
                       dx = timer.empty({size.m, size.k}), pre = timer.random({size.m, size.k}),
                       dbias = timer.empty_sums({size.k})]() mutable {
      kernels::linear_input_gradient(
          {.dy = dy, .w = w, .dx = dx, .activation = kGelu, .pre = pre, .dbias = dbias},
          dy.stream());
    }};
  });
}

// One layer's products for m tokens, and the head's for a quarter of them, as it is computed in
// pieces.
void time_model(KernelTimer& timer, const std::string& model, std::int64_t tokens, std::int64_t c) {
  const std::int64_t m = timer.scaled(tokens);
  const ProductSize up{model + " up", m, 4 * c, c};
  const ProductSize down{model + " down", m, c, 4 * c};
  time_plain(timer, {model + " qkv", m, 3 * c, c});
  time_plain(timer, {model + " attention out", m, c, c});
  time_plain(timer, up);
  time_activated_forward(timer, up);
  time_plain(timer, down);
  time_activated_gradient(timer, down);
  time_plain(timer, {model + " head", timer.scaled(tokens / 4), 50304, c});
}

struct AttentionSize {
  std::int64_t b = 0;
  std::int64_t t = 0;
  std::int64_t h = 0;
  std::int64_t d = 0;
  bool causal = true;

  Shape shape() const { return {b, t, h, d}; }
  // Of `products` products of a square, or of half of one where causal.
  double flops(int products) const {
    const int half_squares = causal ? products : 2 * products;
    return half_squares * static_cast<double>(b * h * t) * static_cast<double>(t * d);
  }
  std::string text() const {
    return fmt::format("D={} T={} B={} H={}{}", d, t, b, h, causal ? "" : " full");
  }
};

struct AttentionBuffers {
  Tensor q, k, v, dy;
  Tensor y, lse, dq, dk, dv;
  kernels::AttentionOptions options;

  AttentionBuffers(KernelTimer& timer, const AttentionSize& size)
      : q(timer.random(size.shape())),
        k(timer.random(size.shape())),
        v(timer.random(size.shape())),
        dy(timer.random(size.shape())),
        y(timer.empty(size.shape())),
        lse(timer.empty_sums({size.b, size.h, size.t})),
        dq(timer.empty(size.shape())),
        dk(timer.empty(size.shape())),
        dv(timer.empty(size.shape())),
        options({.causal = size.causal}) {}

  void forward() {
    kernels::attention_forward({.q = q, .k = k, .v = v, .options = options, .y = y, .lse = lse},
                               q.stream());
  }
  void backward() {
    kernels::attention_backward({.q = q,
                                 .k = k,
                                 .v = v,
                                 .y = y,
                                 .lse = lse,
                                 .dy = dy,
                                 .options = options,
                                 .dq = dq,
                                 .dk = dk,
                                 .dv = dv},
                                q.stream());
  }
};

// Who took the last call.
std::string taken_by(const KernelTimer& timer) {
  if (timer.dtype() != DType::kBFloat16)
    return timer.tf32() ? "own kernel in tf32" : "own kernel";
  const auto& settings = timer.stream().state->get<kernels::AttentionSettings>(timer.stream());
  return settings.refusal.empty() ? "cuDNN" : "own kernel: " + settings.refusal;
}

void time_attention(KernelTimer& timer, const AttentionSize& size) {
  const auto work = [&](const char* kernel, int products, int tensors) {
    return KernelWork{.kernel = kernel,
                      .shape = size.text(),
                      .bytes = tensors * timer.bytes(size.shape().numel()),
                      .flops = size.flops(products),
                      .note = [&timer] { return taken_by(timer); }};
  };
  timer.time(work("attention forward+backward", 7, 8), [&] {
    return KernelCall{[buffers = AttentionBuffers(timer, size)]() mutable {
      buffers.forward();
      buffers.backward();
    }};
  });
  timer.time(work("attention forward", 2, 4), [&] {
    return KernelCall{[buffers = AttentionBuffers(timer, size)]() mutable { buffers.forward(); }};
  });
  timer.time(work("attention backward", 5, 8), [&] {
    AttentionBuffers made(timer, size);
    made.forward();
    return KernelCall{[buffers = made]() mutable { buffers.backward(); }};
  });
}

}  // namespace

void bench_products(KernelTimer& timer) {
  time_model(timer, "124M", 65536, 768);
  time_model(timer, "774M", 16384, 1280);
  time_plain(timer, {"cube", timer.scaled(8192), 8192, 8192});
}

void bench_attention(KernelTimer& timer) {
  constexpr std::int64_t kTokens = 65536;
  struct Heads {
    std::int64_t d;
    std::int64_t width;  // H·D
  };
  constexpr std::array<Heads, 4> kHeads{{{64, 768}, {128, 2048}, {64, 2048}, {128, 768}}};
  for (const Heads& heads : kHeads) {
    for (const std::int64_t t : {std::int64_t{1024}, std::int64_t{4096}}) {
      time_attention(
          timer,
          {.b = timer.scaled(kTokens / t), .t = t, .h = heads.width / heads.d, .d = heads.d});
    }
  }
  // ViT-B/16
  time_attention(timer, {.b = timer.scaled(256), .t = 197, .h = 12, .d = 64, .causal = false});
}

}  // namespace hew
