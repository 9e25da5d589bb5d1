#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>

#include "kernels/elementwise.h"
#include "kernels/linear.h"
#include "kernels/product_settings.h"
#include "tests/support/compare.h"
#include "tests/support/device.h"
#include "tests/support/random.h"
#include "tests/support/sizes.h"

namespace hew {
namespace {

using kernels::Activation;
using kernels::ProductSettings;

struct Mode {
  DType dtype;
  bool tf32 = false;
};

constexpr std::array<Mode, 4> kModes{
    {{DType::kFloat32}, {DType::kFloat32, /*tf32=*/true}, {DType::kFloat64}, {DType::kBFloat16}}};

struct Size {
  std::int64_t m, n, k;
};

// 1, odd, prime; what tensor cores like; no tokens, no outputs, no depth.
constexpr std::array<Size, 11> kSizes{{{1, 1, 1},
                                       {7, 5, 3},
                                       {3, 7, 5},
                                       {1, 37, 64},
                                       {31, 37, 41},
                                       {64, 128, 256},
                                       {257, 384, 129},
                                       {1024, 768, 512},
                                       {0, 4, 8},
                                       {3, 0, 4},
                                       {3, 8, 0}}};
constexpr std::array<Size, 5> kActivatedSizes{
    {{7, 8, 5}, {31, 37, 41}, {64, 128, 256}, {0, 8, 8}, {5, 16, 0}}};

constexpr std::array kActivations{Activation::kRelu, Activation::kGelu, Activation::kGeluTanh,
                                  Activation::kSilu};

ProductSettings& settings_of(const Stream& stream) {
  return stream.state->get<ProductSettings>(stream);
}

// One rounding of a result.
double rounding_of(const Mode& mode) {
  return mode.tf32 ? 0x1p-10 : test::unit_roundoff(mode.dtype);
}

// What a sum of `depth` products with Σ|a·b| ≤ magnitude may be off by before it is rounded. tf32
// cuts two factors to 10 bits.
double sum_error(const Mode& mode, std::int64_t depth, double magnitude) {
  const double inputs = mode.tf32 ? 0x1p-9 : 0;
  return (static_cast<double>(depth + 4) * test::unit_roundoff(accumulator_of(mode.dtype)) +
          inputs) *
         magnitude;
}

Tensor magnitudes(const Tensor& wide) {
  std::vector<double> out = wide.to_vector<double>();
  for (double& x : out) x = std::abs(x);
  return Tensor::from(out, wide.shape(), wide.stream());
}

// The same random values on the GPU, rounded to dtype, and in float64 on the host. The second row
// on of a larger tensor: of an odd length, it begins at no multiple of 16 bytes.
struct Input {
  Tensor gpu;
  Tensor wide;
};

Input input(const Shape& shape, const Mode& mode, std::uint64_t seed, double factor = 1) {
  const Stream cpu = make_cpu_stream();
  const Shape larger = shape.rank() == 2 ? Shape{shape[0] + 1, shape[1]} : Shape{shape[0] + 1};
  Tensor values = test::random_tensor(larger, DType::kFloat64, cpu, seed);
  kernels::scale(factor, values, cpu);
  const Tensor narrow = test::rounded(values, mode.dtype);
  return {.gpu = test::to(narrow, test::gpu_stream()).rows(1, shape[0]),
          .wide = test::rounded(narrow, DType::kFloat64).rows(1, shape[0]).clone()};
}

struct Operands {
  Operands(const Size& s, const Mode& mode)
      : x(input({s.m, s.k}, mode, 1)),
        w(input({s.n, s.k}, mode, 2, 1 / std::sqrt(static_cast<double>(s.k + 1)))),
        bias(input({s.n}, mode, 3)),
        dy(input({s.m, s.n}, mode, 4)),
        pre(input({s.m, s.k}, mode, 5)) {}
  Input x, w, bias, dy, pre;
};

Tensor product(const Tensor& x, const Tensor& w) {
  Tensor y = Tensor::empty({x.size(0), w.size(0)}, DType::kFloat64, x.stream());
  kernels::linear_forward({.x = x, .w = w, .y = y}, x.stream());
  return y;
}

Tensor input_product(const Tensor& dy, const Tensor& w) {
  Tensor dx = Tensor::empty({dy.size(0), w.size(1)}, DType::kFloat64, dy.stream());
  kernels::linear_input_gradient({.dy = dy, .w = w, .dx = dx}, dy.stream());
  return dx;
}

Tensor weight_product(const Tensor& dy, const Tensor& x) {
  Tensor dw = Tensor::empty({dy.size(1), x.size(1)}, DType::kFloat64, dy.stream());
  kernels::linear_weight_gradient({.dy = dy, .x = x, .dw = dw}, dy.stream());
  return dw;
}

Tensor column_sums(const Tensor& wide) {
  Tensor out = Tensor::empty({wide.size(1)}, DType::kFloat64, wide.stream());
  kernels::sum_leading(wide, out, wide.stream());
  return out;
}

// Of values on the GPU, in float64 on the host.
Tensor widened(const Tensor& tensor) {
  return test::rounded(test::on_cpu(tensor), DType::kFloat64);
}

// body(mode, size) for each, with the stream's settings as the mode asks.
template <class Sizes>
void for_each_case(const Sizes& sizes, const std::function<void(const Mode&, const Size&)>& body) {
  ProductSettings& settings = settings_of(test::gpu_stream());
  for (const Mode& mode : kModes) {
    for (const Size& size : sizes) {
      CAPTURE(name_of(mode.dtype));
      CAPTURE(mode.tf32);
      CAPTURE(size.m);
      CAPTURE(size.n);
      CAPTURE(size.k);
      if (test::small_sizes() && size.m * size.n * size.k > 10'000'000)
        continue;
      settings.tf32 = mode.tf32;
      settings.deterministic = test::small_sizes();  // of a library's kernels few instead of many
      body(mode, size);
    }
  }
  settings.tf32 = false;
  settings.deterministic = false;
}

}  // namespace

TEST_CASE("linear products on a GPU agree with the CPU's in float64") {
  const Stream& gpu = test::gpu_stream();
  for_each_case(kSizes, [&](const Mode& mode, const Size& s) {
    const Operands o(s, mode);
    const double relative = rounding_of(mode);
    // The first call of a shape looks for an algorithm, the second has one.
    for (int call = 0; call < 2; ++call) {
      CAPTURE(call);
      Tensor y = test::poisoned({s.m, s.n}, mode.dtype, gpu);
      kernels::linear_forward({.x = o.x.gpu, .w = o.w.gpu, .y = y}, gpu);
      HEW_CHECK_CLOSE(
          y, product(o.x.wide, o.w.wide), relative,
          sum_error(mode, s.k, test::largest(product(magnitudes(o.x.wide), magnitudes(o.w.wide)))));
      Tensor dx = test::poisoned({s.m, s.k}, mode.dtype, gpu);
      kernels::linear_input_gradient({.dy = o.dy.gpu, .w = o.w.gpu, .dx = dx}, gpu);
      HEW_CHECK_CLOSE(
          dx, input_product(o.dy.wide, o.w.wide), relative,
          sum_error(mode, s.n,
                    test::largest(input_product(magnitudes(o.dy.wide), magnitudes(o.w.wide)))));
      Tensor dw = test::poisoned({s.n, s.k}, accumulator_of(mode.dtype), gpu);
      kernels::linear_weight_gradient({.dy = o.dy.gpu, .x = o.x.gpu, .dw = dw}, gpu);
      HEW_CHECK_CLOSE(
          dw, weight_product(o.dy.wide, o.x.wide), 0,
          sum_error(mode, s.m,
                    test::largest(weight_product(magnitudes(o.dy.wide), magnitudes(o.x.wide)))));
    }
  });
}

TEST_CASE("linear_forward on a GPU: bias, pre-activation and activation") {
  const Stream& gpu = test::gpu_stream();
  const Stream cpu = make_cpu_stream();
  const auto check = [&](const Mode& mode, const Size& s, const Operands& o, Activation activation,
                         bool biased, bool kept) {
    CAPTURE(kernels::name_of(activation));
    CAPTURE(biased);
    CAPTURE(kept);
    Tensor wanted_pre = product(o.x.wide, o.w.wide);
    if (biased)
      kernels::add_broadcast(wanted_pre, o.bias.wide, wanted_pre, cpu);
    Tensor wanted = Tensor::empty(wanted_pre.shape(), DType::kFloat64, cpu);
    kernels::activation_forward(activation, wanted_pre, wanted, cpu);
    const double magnitude = test::largest(product(magnitudes(o.x.wide), magnitudes(o.w.wide))) +
                             test::largest(o.bias.wide);
    const double error = sum_error(mode, s.k, magnitude);
    for (int call = 0; call < 2; ++call) {
      Tensor y = test::poisoned({s.m, s.n}, mode.dtype, gpu);
      Tensor pre = test::poisoned({s.m, s.n}, mode.dtype, gpu);
      kernels::linear_forward({.x = o.x.gpu,
                               .w = o.w.gpu,
                               .bias = biased ? ConstView(o.bias.gpu) : ConstView(),
                               .activation = activation,
                               .y = y,
                               .pre = kept ? pre.view() : View()},
                              gpu);
      // An activation is at most 1.2 times as steep; before and after it one rounding, and one more
      // where the bias is added by itself.
      const double roundings = 4 * rounding_of(mode) * test::largest(wanted_pre);
      HEW_CHECK_CLOSE(y, wanted, 0, 1.2 * error + roundings);
      if (kept && activation != Activation::kNone)
        HEW_CHECK_CLOSE(pre, wanted_pre, 0, error + roundings);
    }
  };
  for_each_case(kActivatedSizes, [&](const Mode& mode, const Size& s) {
    const Operands o(s, mode);
    check(mode, s, o, Activation::kNone, /*biased=*/true, /*kept=*/false);
    for (const Activation activation : kActivations) {
      for (const bool biased : {false, true}) {
        for (const bool kept : {false, true}) check(mode, s, o, activation, biased, kept);
      }
    }
  });
}

TEST_CASE("linear_input_gradient on a GPU: through an activation, with its bias gradient") {
  const Stream& gpu = test::gpu_stream();
  const Stream cpu = make_cpu_stream();
  const auto check = [&](const Mode& mode, const Size& s, const Operands& o, Activation activation,
                         bool summed) {
    CAPTURE(kernels::name_of(activation));
    CAPTURE(summed);
    const Tensor plain = input_product(o.dy.wide, o.w.wide);
    Tensor wanted = Tensor::empty(plain.shape(), DType::kFloat64, cpu);
    kernels::activation_backward(activation, o.pre.wide, plain, wanted, cpu);
    const double error = sum_error(
        mode, s.n, test::largest(input_product(magnitudes(o.dy.wide), magnitudes(o.w.wide))));
    for (int call = 0; call < 2; ++call) {
      Tensor dx = test::poisoned({s.m, s.k}, mode.dtype, gpu);
      Tensor dbias = test::poisoned({s.k}, accumulator_of(mode.dtype), gpu);
      kernels::linear_input_gradient({.dy = o.dy.gpu,
                                      .w = o.w.gpu,
                                      .dx = dx,
                                      .activation = activation,
                                      .pre = o.pre.gpu,
                                      .dbias = summed ? dbias.view() : View()},
                                     gpu);
      HEW_CHECK_CLOSE(dx, wanted, 0, 1.2 * error + 4 * rounding_of(mode) * test::largest(plain));
      if (!summed)
        continue;
      // Sums of what dx has become: what is left is the error of summing, and of rounding dx if
      // that came later.
      const Mode exact{.dtype = mode.dtype};
      const Tensor got = widened(dx);
      const double magnitude = test::largest(column_sums(magnitudes(got)));
      const double rounding = mode.dtype == DType::kBFloat16 ? rounding_of(mode) * magnitude : 0;
      HEW_CHECK_CLOSE(dbias, column_sums(got), 0, sum_error(exact, s.m, magnitude) + rounding);
    }
  };
  for_each_case(kActivatedSizes, [&](const Mode& mode, const Size& size) {
    const Size s{size.m, size.k, size.n};  // the widths as they are on the way back
    const Operands o(s, mode);
    for (const Activation activation : kActivations) {
      for (const bool summed : {false, true}) check(mode, s, o, activation, summed);
    }
  });
}

TEST_CASE("linear gradients on a GPU add to what is there, once") {
  const Stream& gpu = test::gpu_stream();
  const Stream cpu = make_cpu_stream();
  for_each_case(kSizes, [&](const Mode& mode, const Size& s) {
    const Operands o(s, mode);
    const Mode sums{.dtype = accumulator_of(mode.dtype), .tf32 = mode.tf32};
    const Input dw_before = input({s.n, s.k}, sums, 6);
    const Input dbias_before = input({s.n}, sums, 7);
    const Tensor dx_product = input_product(o.dy.wide, o.w.wide);
    const Tensor dw_product = weight_product(o.dy.wide, o.x.wide);
    const Tensor dbias_sum = column_sums(o.dy.wide);
    const double dx_error =
        sum_error(mode, s.n + 1,
                  test::largest(input_product(magnitudes(o.dy.wide), magnitudes(o.w.wide))) + 8);
    const double dw_error =
        sum_error(mode, s.m + 1,
                  test::largest(weight_product(magnitudes(o.dy.wide), magnitudes(o.x.wide))) + 8);
    const double dbias_error =
        sum_error(mode, s.m + 1, test::largest(column_sums(magnitudes(o.dy.wide))) + 8);
    for (const bool accumulate : {false, true, true}) {
      CAPTURE(accumulate);
      Tensor dw = accumulate ? dw_before.gpu.clone() : test::poisoned({s.n, s.k}, sums.dtype, gpu);
      Tensor dbias = accumulate ? dbias_before.gpu.clone() : test::poisoned({s.n}, sums.dtype, gpu);
      kernels::linear_weight_gradient(
          {.dy = o.dy.gpu, .x = o.x.gpu, .dw = dw, .accumulate = accumulate, .dbias = dbias}, gpu);
      Tensor wanted = dw_product.clone();
      Tensor wanted_bias = dbias_sum.clone();
      if (accumulate) {
        kernels::add(wanted, dw_before.wide, wanted, cpu);
        kernels::add(wanted_bias, dbias_before.wide, wanted_bias, cpu);
      }
      HEW_CHECK_CLOSE(dw, wanted, 0, dw_error);
      HEW_CHECK_CLOSE(dbias, wanted_bias, 0, dbias_error);
      if (!accumulate)
        continue;
      Tensor dx = o.pre.gpu.clone();
      kernels::linear_input_gradient({.dy = o.dy.gpu, .w = o.w.gpu, .dx = dx, .accumulate = true},
                                     gpu);
      Tensor wanted_dx = dx_product.clone();
      kernels::add(wanted_dx, o.pre.wide, wanted_dx, cpu);
      // The library may round the product before it adds what was there.
      const double rounding = rounding_of(mode) / 2 * test::largest(dx_product);
      HEW_CHECK_CLOSE(dx, wanted_dx, rounding_of(mode), dx_error + rounding);
    }
  });
}

TEST_CASE("choices of products are exported, imported on another stream, and used there") {
  const Stream first = make_stream({.type = DeviceType::kCuda, .index = 0});
  const Stream second = make_stream({.type = DeviceType::kCuda, .index = 0});
  const Mode mode{.dtype = DType::kBFloat16};
  const Operands o({192, 320, 448}, mode);
  const auto run = [&](const Stream& stream) {
    Tensor y = Tensor::empty({192, 320}, mode.dtype, stream);
    Tensor pre = Tensor::empty({192, 320}, mode.dtype, stream);
    Tensor dw = Tensor::empty({320, 448}, DType::kFloat32, stream);
    const Tensor x = test::to(o.x.gpu, stream);
    const Tensor w = test::to(o.w.gpu, stream);
    kernels::linear_forward({.x = x,
                             .w = w,
                             .bias = test::to(o.bias.gpu, stream),
                             .activation = Activation::kGeluTanh,
                             .y = y,
                             .pre = pre},
                            stream);
    kernels::linear_weight_gradient({.dy = test::to(o.dy.gpu, stream), .x = x, .dw = dw}, stream);
    return std::array{test::on_cpu(y), test::on_cpu(pre), test::on_cpu(dw)};
  };
  const auto wanted = run(first);
  const std::string text = settings_of(first).export_choices();
  CHECK(settings_of(first).choices.size() == 2);
  settings_of(second).import_choices(text);
  const auto got = run(second);
  for (std::size_t i = 0; i < got.size(); ++i) CHECK(test::same_bytes(got[i], wanted[i]));
  CHECK(settings_of(second).export_choices() == text);

  // What the library did not write is not used.
  for (auto& [key, choice] : settings_of(second).choices) {
    choice = {.epilogue = choice.epilogue, .algorithm = {~std::uint64_t{0}, 12345}};
  }
  const auto again = run(second);
  for (std::size_t i = 0; i < again.size(); ++i) {
    HEW_CHECK_CLOSE(test::rounded(again[i], DType::kFloat64),
                    test::rounded(wanted[i], DType::kFloat64), 0x1p-7, 0x1p-7);
  }
}

TEST_CASE("deterministic products are chosen alike every time") {
  const Mode mode{.dtype = DType::kFloat32};
  const Operands o({320, 256, test::cut(4096, 512)}, mode);
  std::array<Tensor, 2> results;
  std::array<std::string, 2> choices;
  for (std::size_t i = 0; i < results.size(); ++i) {
    const Stream stream = make_stream({.type = DeviceType::kCuda, .index = 0});
    settings_of(stream).deterministic = true;
    Tensor y = Tensor::empty({320, 256}, mode.dtype, stream);
    const Tensor x = test::to(o.x.gpu, stream);
    const Tensor w = test::to(o.w.gpu, stream);
    kernels::linear_forward({.x = x, .w = w, .y = y}, stream);
    results[i] = test::on_cpu(y);
    choices[i] = settings_of(stream).export_choices();
  }
  CHECK(test::same_bytes(results[0], results[1]));
  CHECK(choices[0] == choices[1]);
}

}  // namespace hew
