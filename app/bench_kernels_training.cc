#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <unordered_set>
#include <vector>

#include "app/bench_kernels_groups.h"
#include "core/rng.h"
#include "kernels/adamw.h"
#include "kernels/blocks.h"
#include "kernels/cross_entropy.h"
#include "kernels/elementwise.h"
#include "kernels/embedding.h"
#include "kernels/global_norm.h"
#include "sparsity/pattern.h"

namespace hew {
namespace {

constexpr std::uint64_t kIdKey = 2;
constexpr std::uint64_t kMaskKey = 3;
constexpr std::int64_t kVocabulary = 50304;
constexpr std::int64_t kContext = 1024;
constexpr std::int64_t kWidth = 768;
constexpr float kDensity = 0.2F;

// The inverse of the distribution function of a density of 1/x on [1, V).
std::vector<std::int32_t> word_ids(std::int64_t count, std::uint64_t stream) {
  std::vector<std::int32_t> ids(static_cast<std::size_t>(count));
#pragma omp parallel for
  for (std::int64_t i = 0; i < count; ++i) {
    const double u = uniform(kIdKey, stream, static_cast<std::uint64_t>(i));
    ids[static_cast<std::size_t>(i)] =
        static_cast<std::int32_t>(std::pow(static_cast<double>(kVocabulary), u)) - 1;
  }
  return ids;
}

struct ModelSize {
  const char* name;
  std::int64_t layers;
  std::int64_t width;
};
constexpr ModelSize k124M{"124M", 12, 768};
constexpr ModelSize k774M{"774M", 36, 1280};

std::vector<Shape> parameter_shapes(const KernelTimer& timer, const ModelSize& size) {
  const std::int64_t c = size.width;
  std::vector<Shape> shapes{{timer.scaled(kVocabulary), c}, {kContext, c}, {c}, {c}};
  for (std::int64_t layer = 0; layer < timer.scaled(size.layers); ++layer) {
    for (const std::int64_t n : {3 * c, c, 4 * c}) {
      shapes.push_back({n, c});
      shapes.push_back({n});
    }
    shapes.insert(shapes.end(), {{c, 4 * c}, {c}, {c}, {c}, {c}, {c}});
  }
  return shapes;
}

std::int64_t total(const std::vector<Shape>& shapes) {
  std::int64_t n = 0;
  for (const Shape& shape : shapes) n += shape.numel();
  return n;
}

std::string list_name(const ModelSize& size, const std::vector<Shape>& shapes) {
  return fmt::format("{} n={} in {}", size.name, total(shapes), shapes.size());
}

// Owners of what the views of an update show.
struct Update {
  std::vector<Tensor> owners;
  std::vector<kernels::AdamWTensors> tensors;
  Tensor grad_scale;
};

Update make_update(KernelTimer& timer, const std::vector<Shape>& shapes, DType moments) {
  const Stream& stream = timer.stream();
  Update update;
  const auto own = [&update](Tensor tensor) {
    update.owners.push_back(std::move(tensor));
    return update.owners.back().view();
  };
  const View birth = own(Tensor::zeros({1}, DType::kInt64, stream));
  update.grad_scale = Tensor::from(std::vector<double>{1.0}, {}, stream);
  for (const Shape& shape : shapes) {
    Tensor v = timer.random(shape, moments);
    kernels::multiply(v, v, v, stream);
    update.tensors.push_back({.g = own(timer.random(shape, DType::kFloat32)),
                              .birth = birth,
                              .w = own(timer.random(shape, DType::kFloat32)),
                              .m = own(timer.random(shape, moments)),
                              .v = own(std::move(v)),
                              .working = own(timer.empty(shape, DType::kBFloat16)),
                              .weight_decay = 0.1});
  }
  return update;
}

void time_adamw(KernelTimer& timer, const ModelSize& size, DType moments) {
  const std::vector<Shape> shapes = parameter_shapes(timer, size);
  // g and working once, w, m and v read and written
  const std::int64_t each = 4 + 2 * 4 + 4 * size_of(moments) + 2;
  timer.time({.kernel = fmt::format("adamw, moments {}", name_of(moments)),
              .shape = list_name(size, shapes),
              .bytes = static_cast<double>(each * total(shapes))},
             [&] {
               return KernelCall{[update = make_update(timer, shapes, moments)] {
                 kernels::adamw(
                     {.lr = 1e-4, .beta2 = 0.95, .step = 100, .grad_scale = update.grad_scale},
                     update.tensors, update.grad_scale.stream());
               }};
             });
}

sparsity::BsrPattern random_pattern(const sparsity::BlockGrid& grid, const Stream& stream) {
  sparsity::MaskBytes mask(static_cast<std::size_t>(grid.blocks()));
  for (std::size_t i = 0; i < mask.size(); ++i) mask[i] = uniform(kMaskKey, 0, i) < kDensity;
  return {grid, mask, stream};
}

void time_gather_and_scatter(KernelTimer& timer, const sparsity::BlockGrid& grid) {
  const sparsity::BsrPattern pattern = random_pattern(grid, timer.stream());
  const kernels::BsrIndex index = pattern.index();
  const Shape dense{grid.rows, grid.cols};
  const Shape values{pattern.nnzb(), grid.block, grid.block};
  const std::string shape = fmt::format("N={} K={} b={} density {:.2f}", grid.rows, grid.cols,
                                        grid.block, 1 - pattern.sparsity());
  const double live = timer.bytes(values.numel());
  timer.time({.kernel = "gather_blocks", .shape = shape, .bytes = 2 * live}, [&] {
    return KernelCall{[index, from = timer.random(dense), to = timer.empty(values)]() mutable {
      kernels::gather_blocks(from, index, to, from.stream());
    }};
  });
  timer.time(
      {.kernel = "scatter_blocks", .shape = shape, .bytes = live + timer.bytes(dense.numel())},
      [&] {
        return KernelCall{[index, from = timer.random(values), to = timer.empty(dense)]() mutable {
          kernels::scatter_blocks(from, index, to, from.stream());
        }};
      });
}

}  // namespace

void bench_embedding(KernelTimer& timer) {
  const std::int64_t m = timer.scaled(std::int64_t{1} << 19U);
  const std::vector<std::int32_t> ids = word_ids(m, 0);
  const std::unordered_set<std::int32_t> used(ids.begin(), ids.end());
  const auto id_bytes = static_cast<double>(m * size_of(DType::kInt32));
  const double rows = timer.bytes(m * kWidth);
  const auto table =
      static_cast<double>(kVocabulary * kWidth * size_of(accumulator_of(timer.dtype())));
  const std::string shape = fmt::format("M={} V={} C={}", m, kVocabulary, kWidth);
  timer.time(
      {.kernel = "embedding forward",
       .shape = shape,
       .bytes = id_bytes + rows + timer.bytes(static_cast<std::int64_t>(used.size()) * kWidth)},
      [&] {
        return KernelCall{[i = Tensor::from(ids, {m}, timer.stream()),
                           weights = timer.random({kVocabulary, kWidth}),
                           y = timer.empty({m, kWidth})]() mutable {
          kernels::embedding_forward(i, weights, y, y.stream());
        }};
      });
  // Training does so on a second queue, beside the forward pass.
  const auto groups = static_cast<double>(2 * (m + kVocabulary) * size_of(DType::kInt32));
  timer.time({.kernel = "group_ids", .shape = shape, .bytes = id_bytes + groups}, [&] {
    return KernelCall{[i = Tensor::from(ids, {m}, timer.stream())] {
      kernels::group_ids(i, kVocabulary, i.stream());
    }};
  });
  timer.time(
      {.kernel = "embedding backward", .shape = shape, .bytes = id_bytes + rows + table}, [&] {
        return KernelCall{[groups = kernels::group_ids(Tensor::from(ids, {m}, timer.stream()),
                                                       kVocabulary, timer.stream()),
                           dy = timer.random({m, kWidth}),
                           dtable = timer.empty_sums({kVocabulary, kWidth})]() mutable {
          kernels::embedding_backward(groups, dy, dtable, /*accumulate=*/false, dy.stream());
        }};
      });
}

void bench_cross_entropy(KernelTimer& timer) {
  const std::int64_t m = timer.scaled(16384);
  const Shape shape{m, kVocabulary};
  timer.time(
      {.kernel = "fused_cross_entropy",
       .shape = fmt::format("M={} V={}", m, kVocabulary),
       .bytes = 2 * timer.bytes(shape.numel())},
      [&] {
        const Tensor fresh = timer.random(shape);
        const Tensor targets = Tensor::from(word_ids(m, 1), {m}, timer.stream());
        Tensor logits = timer.empty(shape);
        logits.copy_from(fresh);
        Tensor weight = timer.empty_sums({});
        kernels::target_weight(targets, 1.0, weight, timer.stream());
        return KernelCall{
            .run =
                [logits, targets, weight, losses = timer.empty_sums({m})]() mutable {
                  kernels::fused_cross_entropy(
                      {.logits = logits, .targets = targets, .weight = weight, .losses = losses},
                      logits.stream());
                },
            .restore = [logits, fresh]() mutable { logits.copy_from(fresh); }};
      });
}

void bench_adamw(KernelTimer& timer) {
  time_adamw(timer, k124M, DType::kFloat32);
  time_adamw(timer, k774M, DType::kFloat32);
  time_adamw(timer, k774M, DType::kBFloat16);
}

void bench_global_norm(KernelTimer& timer) {
  for (const ModelSize& size : {k124M, k774M}) {
    const std::vector<Shape> shapes = parameter_shapes(timer, size);
    timer.time({.kernel = "global_norm",
                .shape = list_name(size, shapes),
                .bytes = static_cast<double>(total(shapes) * size_of(DType::kFloat32))},
               [&] {
                 std::vector<Tensor> owners;
                 std::vector<ConstView> gradients;
                 for (const Shape& shape : shapes) {
                   owners.push_back(timer.random(shape, DType::kFloat32));
                   gradients.push_back(owners.back().view());
                 }
                 const auto n = static_cast<std::int64_t>(gradients.size());
                 return KernelCall{
                     [owners, gradients,
                      result = timer.empty({kernels::kNormFields + n}, DType::kFloat64)]() mutable {
                       kernels::global_norm(gradients, /*max_norm=*/1.0, result, result.stream());
                     }};
               });
  }
}

void bench_blocks(KernelTimer& timer) {
  for (const std::int64_t b : {std::int64_t{32}, std::int64_t{64}}) {
    const sparsity::BlockGrid grid{.rows = timer.scaled(16384), .cols = 16384, .block = b};
    timer.time({.kernel = "block_norms",
                .shape = fmt::format("N={} K={} b={}", grid.rows, grid.cols, b),
                .bytes = timer.bytes(grid.rows * grid.cols)},
               [&] {
                 return KernelCall{[b, dense = timer.random({grid.rows, grid.cols}),
                                    norms = timer.empty({grid.block_rows(), grid.block_cols()},
                                                        DType::kFloat64)]() mutable {
                   kernels::block_norms(dense, b, norms, dense.stream());
                 }};
               });
    time_gather_and_scatter(timer, grid);
  }
}

}  // namespace hew
