#include <fmt/format.h>

#include "app/bench_kernels_groups.h"
#include "kernels/activation.h"
#include "kernels/dropout.h"
#include "kernels/elementwise.h"
#include "kernels/norm.h"
#include "kernels/rotary.h"
#include "kernels/swiglu.h"

namespace hew {
namespace {

constexpr std::int64_t kRows = std::int64_t{1} << 18U;      // [M, 768] has 400 MB in bfloat16
constexpr std::int64_t kElements = std::int64_t{1} << 28U;  // 537 MB in bfloat16
constexpr std::int64_t kContext = 1024;
constexpr std::int64_t kWidth = 768;
constexpr double kDropout = 0.1;

std::string matrix(std::int64_t m, std::int64_t c) {
  return fmt::format("M={} C={}", m, c);
}

// Of mean or rstd, one for each row.
double row_bytes(const KernelTimer& timer, std::int64_t m) {
  return static_cast<double>(m * size_of(accumulator_of(timer.dtype())));
}

void time_layer_norm_forward(KernelTimer& timer, std::int64_t m, std::int64_t c) {
  timer.time(
      {.kernel = "layer_norm forward with residual",
       .shape = matrix(m, c),
       .bytes = 4 * timer.bytes(m * c) + 2 * row_bytes(timer, m)},
      [&timer, m, c] {
        return KernelCall{[x = timer.random({m, c}), residual = timer.random({m, c}),
                           weight = timer.random({c}), bias = timer.random({c}),
                           sum = timer.empty({m, c}), y = timer.empty({m, c}),
                           mean = timer.empty_sums({m}), rstd = timer.empty_sums({m})]() mutable {
          kernels::layer_norm_forward({.x = x,
                                       .residual = residual,
                                       .weight = weight,
                                       .bias = bias,
                                       .sum = sum,
                                       .y = y,
                                       .mean = mean,
                                       .rstd = rstd},
                                      x.stream());
        }};
      });
}

void time_layer_norm_backward(KernelTimer& timer, std::int64_t m, std::int64_t c) {
  timer.time({.kernel = "layer_norm backward with dsum",
              .shape = matrix(m, c),
              .bytes = 4 * timer.bytes(m * c) + 2 * row_bytes(timer, m)},
             [&timer, m, c] {
               const Tensor x = timer.random({m, c});
               const Tensor weight = timer.random({c});
               Tensor mean = timer.empty_sums({m});
               Tensor rstd = timer.empty_sums({m});
               Tensor dx = timer.empty({m, c});
               kernels::layer_norm_forward(
                   {.x = x, .weight = weight, .bias = {}, .y = dx, .mean = mean, .rstd = rstd},
                   x.stream());
               return KernelCall{[x, weight, mean, rstd, dx, dy = timer.random({m, c}),
                                  dsum = timer.random({m, c}), dweight = timer.empty_sums({c}),
                                  dbias = timer.empty_sums({c})]() mutable {
                 kernels::layer_norm_backward({.x = x,
                                               .weight = weight,
                                               .mean = mean,
                                               .rstd = rstd,
                                               .dy = dy,
                                               .dsum = dsum,
                                               .dx = dx,
                                               .dweight = dweight,
                                               .dbias = dbias},
                                              x.stream());
               }};
             });
}

void time_rms_norm_forward(KernelTimer& timer, std::int64_t m, std::int64_t c) {
  timer.time(
      {.kernel = "rms_norm forward with residual",
       .shape = matrix(m, c),
       .bytes = 4 * timer.bytes(m * c) + row_bytes(timer, m)},
      [&timer, m, c] {
        return KernelCall{[x = timer.random({m, c}), residual = timer.random({m, c}),
                           weight = timer.random({c}), sum = timer.empty({m, c}),
                           y = timer.empty({m, c}), rstd = timer.empty_sums({m})]() mutable {
          kernels::rms_norm_forward(
              {.x = x, .residual = residual, .weight = weight, .sum = sum, .y = y, .rstd = rstd},
              x.stream());
        }};
      });
}

void time_rms_norm_backward(KernelTimer& timer, std::int64_t m, std::int64_t c) {
  timer.time(
      {.kernel = "rms_norm backward with dsum",
       .shape = matrix(m, c),
       .bytes = 4 * timer.bytes(m * c) + row_bytes(timer, m)},
      [&timer, m, c] {
        const Tensor x = timer.random({m, c});
        const Tensor weight = timer.random({c});
        Tensor rstd = timer.empty_sums({m});
        Tensor dx = timer.empty({m, c});
        kernels::rms_norm_forward({.x = x, .weight = weight, .y = dx, .rstd = rstd}, x.stream());
        return KernelCall{[x, weight, rstd, dx, dy = timer.random({m, c}),
                           dsum = timer.random({m, c}), dweight = timer.empty_sums({c})]() mutable {
          kernels::rms_norm_backward({.x = x,
                                      .weight = weight,
                                      .rstd = rstd,
                                      .dy = dy,
                                      .dsum = dsum,
                                      .dx = dx,
                                      .dweight = dweight},
                                     x.stream());
        }};
      });
}

void time_casts(KernelTimer& timer, std::int64_t n) {
  for (const auto& [from, to] : {std::pair(DType::kFloat32, DType::kBFloat16),
                                 std::pair(DType::kBFloat16, DType::kFloat32)}) {
    timer.time(
        {.kernel = fmt::format("cast {} to {}", name_of(from), name_of(to)),
         .shape = fmt::format("n={}", n),
         .bytes = static_cast<double>(n * (size_of(from) + size_of(to)))},
        [&timer, n, from = from, to = to] {
          return KernelCall{[x = timer.random({n}, from), y = timer.empty({n}, to)]() mutable {
            kernels::cast(x, y, x.stream());
          }};
        });
  }
}

}  // namespace

void bench_norm(KernelTimer& timer) {
  for (const auto& [m, c] : {std::pair(kRows, kWidth), std::pair(kRows / 2, std::int64_t{1600}),
                             std::pair(kRows / 4, std::int64_t{4096})}) {
    time_layer_norm_forward(timer, timer.scaled(m), c);
    time_layer_norm_backward(timer, timer.scaled(m), c);
    time_rms_norm_forward(timer, timer.scaled(m), c);
    time_rms_norm_backward(timer, timer.scaled(m), c);
  }
}

void bench_activation(KernelTimer& timer) {
  const std::int64_t m = timer.scaled(kRows / 2);
  constexpr std::int64_t kHidden = 4 * kWidth;
  constexpr auto kActivation = kernels::Activation::kGeluTanh;
  const std::string shape = fmt::format("M={} N={}", m, kHidden);
  timer.time({.kernel = "gelu_tanh forward", .shape = shape, .bytes = 2 * timer.bytes(m * kHidden)},
             [&timer, m] {
               return KernelCall{
                   [x = timer.random({m, kHidden}), y = timer.empty({m, kHidden})]() mutable {
                     kernels::activation_forward(kActivation, x, y, x.stream());
                   }};
             });
  timer.time({.kernel = "gelu_tanh backward with dbias",
              .shape = shape,
              .bytes = 3 * timer.bytes(m * kHidden)},
             [&timer, m] {
               return KernelCall{[x = timer.random({m, kHidden}), dy = timer.random({m, kHidden}),
                                  dx = timer.empty({m, kHidden}),
                                  dbias = timer.empty_sums({kHidden})]() mutable {
                 kernels::activation_backward(
                     {.activation = kActivation, .x = x, .dy = dy, .dx = dx, .dbias = dbias},
                     x.stream());
               }};
             });
}

void bench_swiglu(KernelTimer& timer) {
  const std::int64_t m = timer.scaled(kRows / 4);
  const std::int64_t n = 4096;
  const std::string shape = fmt::format("M={} N={}", m, n);
  timer.time({.kernel = "swiglu forward", .shape = shape, .bytes = 3 * timer.bytes(m * n)},
             [&timer, m] {
               return KernelCall{[gate = timer.random({m, n}), up = timer.random({m, n}),
                                  y = timer.empty({m, n})]() mutable {
                 kernels::swiglu_forward(gate, up, y, gate.stream());
               }};
             });
  timer.time({.kernel = "swiglu backward", .shape = shape, .bytes = 5 * timer.bytes(m * n)},
             [&timer, m] {
               return KernelCall{[gate = timer.random({m, n}), up = timer.random({m, n}),
                                  dy = timer.random({m, n}), dgate = timer.empty({m, n}),
                                  dup = timer.empty({m, n})]() mutable {
                 kernels::swiglu_backward(
                     {.gate = gate, .up = up, .dy = dy, .dgate = dgate, .dup = dup}, gate.stream());
               }};
             });
}

void bench_rotary(KernelTimer& timer) {
  for (const std::int64_t d : {std::int64_t{64}, std::int64_t{128}}) {
    const Shape shape{timer.scaled(kRows / kContext), kContext, kWidth / d, d};
    timer.time({.kernel = "rotary",
                .shape = fmt::format("D={} T={} B={} H={}", d, kContext, shape[0], shape[2]),
                .bytes = 2 * timer.bytes(shape.numel())},
               [&timer, shape] {
                 return KernelCall{[x = timer.random(shape), y = timer.empty(shape)]() mutable {
                   kernels::rotary({.x = x, .y = y}, x.stream());
                 }};
               });
  }
}

void bench_dropout(KernelTimer& timer) {
  const std::int64_t n = timer.scaled(kElements);
  timer.time({.kernel = "dropout",
              .shape = fmt::format("n={} p={}", n, kDropout),
              .bytes = 2 * timer.bytes(n)},
             [&timer, n] {
               return KernelCall{[x = timer.random({n}), y = timer.empty({n})]() mutable {
                 kernels::dropout({.p = kDropout, .key = 1}, x, y, x.stream());
               }};
             });
}

void bench_elementwise(KernelTimer& timer) {
  const std::int64_t n = timer.scaled(kElements);
  time_casts(timer, n);
  timer.time(
      {.kernel = "add", .shape = fmt::format("n={}", n), .bytes = 3 * timer.bytes(n)}, [&timer, n] {
        return KernelCall{[a = timer.random({n}), b = timer.random({n}),
                           y = timer.empty({n})]() mutable { kernels::add(a, b, y, a.stream()); }};
      });
  const Shape shape{timer.scaled(2 * kRows / kContext), kContext, kWidth};
  const std::string rows = matrix(shape[0] * shape[1], shape[2]);
  const double bytes = timer.bytes(shape.numel());
  timer.time({.kernel = "add_broadcast",
              .shape = rows + fmt::format(" T={}", kContext),
              .bytes = 2 * bytes},
             [&timer, shape] {
               return KernelCall{[x = timer.random(shape), b = timer.random({kContext, kWidth}),
                                  y = timer.empty(shape)]() mutable {
                 kernels::add_broadcast(x, b, y, x.stream());
               }};
             });
  timer.time({.kernel = "sum_leading", .shape = rows, .bytes = bytes}, [&timer, shape] {
    return KernelCall{[x = timer.random(shape), y = timer.empty_sums({kWidth})]() mutable {
      kernels::sum_leading(x, y, x.stream());
    }};
  });
}

}  // namespace hew
