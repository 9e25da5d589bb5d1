#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/bsr_mlp.h"
#include "kernels/bsr_mlp_schedule.h"
#include "kernels/bsr_routes.h"
#include "kernels/hopper/bsr_mlp.h"
#include "tests/support/block_pattern.h"
#include "tests/support/compare.h"
#include "tests/support/gpu_input.h"
#include "tests/support/sizes.h"

namespace hew {
namespace {

using kernels::Activation;
using kernels::BsrFusing;
using test::BlockPattern;
using test::gpu_stream;
using test::one_block;
using test::random_pattern;

// Fused in any case, or never, while it lives.
class Fusing {
 public:
  explicit Fusing(BsrFusing fusing) { set(fusing); }
  ~Fusing() { set(BsrFusing::kAuto); }
  Fusing(const Fusing&) = delete;
  Fusing& operator=(const Fusing&) = delete;

 private:
  static void set(BsrFusing fusing) {
    gpu_stream().state->get<kernels::BsrSettings>(gpu_stream()).fusing = fusing;
  }
};

// One MLP on the GPU in bfloat16 and, with the same values, on the host in float64. Weights are
// scaled such that hidden values and outputs deviate by about 1 at most.
class Case {
 public:
  Case(BlockPattern up, BlockPattern down, std::int64_t tokens, Activation activation)
      : up_(std::move(up)),
        down_(std::move(down)),
        activation_(activation),
        on_gpu_{{up_, gpu_stream()}, {down_, gpu_stream()}},
        schedule_(kernels::mlp_schedule_for(up_.index(), down_.index(), gpu_stream())),
        x_(input({tokens, up_.cols}, 1, 1)),
        up_values_(weight(up_, 2)),
        up_bias_(input({up_.rows}, 3, 0.5)),
        down_values_(weight(down_, 4)),
        down_bias_(input({down_.rows}, 5, 0.5)) {}

  bool has_schedule() const { return schedule_ != nullptr; }

  Tensor on_gpu(bool biases = true) const {
    Tensor y = test::poisoned({x_.gpu.size(0), down_.rows}, DType::kBFloat16, gpu_stream());
    const kernels::BsrMlpArgs args{.x = x_.gpu,
                                   .up_values = up_values_.gpu,
                                   .up = on_gpu_.up.index(),
                                   .up_bias = biases ? up_bias_.gpu.view() : ConstView{},
                                   .activation = activation_,
                                   .down_values = down_values_.gpu,
                                   .down = on_gpu_.down.index(),
                                   .down_bias = biases ? down_bias_.gpu.view() : ConstView{},
                                   .schedule = schedule_.get(),
                                   .y = y};
    // Else two products would be made in silence, and tested.
    if (has_schedule())
      REQUIRE(kernels::hopper::takes(kernels::Cuda{gpu_stream()}, args));
    kernels::bsr_mlp_forward(args, gpu_stream());
    return test::on_cpu(y);
  }

  // In float64, nothing rounded between the layers.
  Tensor reference(bool biases = true) const {
    const Stream cpu = make_cpu_stream();
    Tensor y = Tensor::empty({x_.wide.size(0), down_.rows}, DType::kFloat64, cpu);
    kernels::bsr_mlp_forward({.x = x_.wide,
                              .up_values = up_values_.wide,
                              .up = up_.index(),
                              .up_bias = biases ? up_bias_.wide.view() : ConstView{},
                              .activation = activation_,
                              .down_values = down_values_.wide,
                              .down = down_.index(),
                              .down_bias = biases ? down_bias_.wide.view() : ConstView{},
                              .y = y},
                             cpu);
    return y;
  }

  // A hidden value errs by its rounding to bfloat16, at most 2⁻⁹ of 6 standard deviations of 1.2
  // or so, and by the sum before it, which is far less. These errors, and the weights that they
  // meet, are independent, so their sum is that of a random walk: within 6 of its deviations,
  // which is one hidden value's error, whatever the density. Twice that is allowed.
  double absolute() const { return 2 * 6 * 1.2 * test::unit_roundoff(DType::kBFloat16); }

  void check(bool biases = true) const {
    HEW_CHECK_CLOSE(on_gpu(biases), reference(biases), test::unit_roundoff(DType::kBFloat16),
                    absolute());
  }

  // The last block of a matrix multiplied by −1, on the GPU alone.
  void plant_wrong_block(bool in_up) {
    test::GpuInput& values = in_up ? up_values_ : down_values_;
    Tensor wrong = values.wide.clone();
    const std::int64_t size = wrong.size(1) * wrong.size(2);
    double* first = wrong.data<double>() + (wrong.size(0) - 1) * size;
    for (std::int64_t i = 0; i < size; ++i) first[i] = -first[i];
    values.gpu = test::gpu_input(wrong, DType::kBFloat16).gpu;
  }

 private:
  struct Uploaded {
    test::UploadedPattern up;
    test::UploadedPattern down;
  };

  static test::GpuInput input(const Shape& shape, std::uint64_t seed, double scale) {
    return test::gpu_input(
        scaled(test::random_tensor(shape, DType::kFloat64, make_cpu_stream(), seed), scale),
        DType::kBFloat16);
  }
  static Tensor scaled(Tensor values, double scale) {
    double* first = values.data<double>();
    for (std::int64_t i = 0; i < values.numel(); ++i) first[i] *= scale;
    return values;
  }
  static test::GpuInput weight(const BlockPattern& p, std::uint64_t seed) {
    std::int64_t most = 1;  // blocks of a row
    for (std::size_t r = 0; r + 1 < p.crow.size(); ++r)
      most = std::max<std::int64_t>(most, p.crow[r + 1] - p.crow[r]);
    const Tensor values =
        test::random_tensor(p.values_shape(), DType::kFloat64, make_cpu_stream(), seed);
    const double scale = 1 / std::sqrt(static_cast<double>(most * p.block));
    return test::gpu_input(with_zero_padding(scaled(values, scale), p), DType::kBFloat16);
  }

  BlockPattern up_;
  BlockPattern down_;
  Activation activation_;
  Uploaded on_gpu_;
  std::shared_ptr<const kernels::BsrMlpSchedule> schedule_;
  test::GpuInput x_;
  test::GpuInput up_values_;
  test::GpuInput up_bias_;
  test::GpuInput down_values_;
  test::GpuInput down_bias_;
};

struct Sizes {
  std::int64_t in;
  std::int64_t hidden;
  std::int64_t out;
};

Case case_of(const Sizes& s, std::int64_t b, double density, std::int64_t tokens,
             Activation activation = Activation::kGelu) {
  return {random_pattern(s.hidden, s.in, b, density, 11),
          random_pattern(s.out, s.hidden, b, density, 12), tokens, activation};
}

}  // namespace

TEST_CASE("a fused block-sparse MLP agrees with the CPU for all numbers of tokens") {
  const Fusing fusing(BsrFusing::kAlways);
  for (const Sizes& s : {Sizes{768, 256, 768}, Sizes{384, 256, 384}}) {
    CAPTURE(s.in);
    for (const std::int64_t tokens : {1, 47, 48, 49, 79, 80, 81, 97, 161, 1000}) {
      CAPTURE(tokens);
      case_of(s, 64, 0.5, test::cut(tokens, 100)).check();
    }
  }
}

TEST_CASE("a fused block-sparse MLP agrees with the CPU for all sizes, blocks and densities") {
  const Fusing fusing(BsrFusing::kAlways);
  for (const Sizes& s :
       {Sizes{64, 64, 64}, Sizes{128, 256, 128}, Sizes{384, 1536, 384}, Sizes{768, 3072, 768},
        Sizes{200, 328, 136}, Sizes{768, 328, 8}, Sizes{8, 1000, 448}}) {
    if (test::small_sizes() && s.hidden > 400)
      continue;
    CAPTURE(s.in);
    CAPTURE(s.hidden);
    for (const std::int64_t b : {32, 64, 128}) {
      CAPTURE(b);
      for (const double density : {0.0, 0.1, 0.5, 1.0}) {
        CAPTURE(density);
        case_of(s, b, density, 97).check();
      }
    }
  }
}

TEST_CASE("a fused block-sparse MLP has single blocks, hidden strips without any, and no biases") {
  const Fusing fusing(BsrFusing::kAlways);
  for (const std::int64_t b : {32, 64, 128}) {
    CAPTURE(b);
    const BlockPattern many = random_pattern(768, 1024, b, 0.3, 4);
    for (const bool biases : {true, false}) {
      CAPTURE(biases);
      Case(one_block(1024, 768, b, 2, 1), many, 100, Activation::kGelu).check(biases);
      Case(random_pattern(1024, 768, b, 0.3, 5), one_block(768, 1024, b, 3, 0), 100,
           Activation::kGelu)
          .check(biases);
      Case(one_block(1024, 768, b, 2, 1), one_block(768, 1024, b, 0, 2), 100, Activation::kGelu)
          .check(biases);
    }
  }
}

TEST_CASE("a fused block-sparse MLP has all activations") {
  const Fusing fusing(BsrFusing::kAlways);
  for (const Activation activation : {Activation::kNone, Activation::kRelu, Activation::kGelu,
                                      Activation::kGeluTanh, Activation::kSilu}) {
    CAPTURE(kernels::name_of(activation));
    case_of({768, 512, 768}, 64, 0.3, 300, activation).check();
    case_of({320, 512, 384}, 32, 0.3, 300, activation).check();
  }
}

// More tiles than thread blocks can make at a time, several rounds of them.
TEST_CASE("a fused block-sparse MLP gives the same bits twice, over many rounds of tiles") {
  const Fusing fusing(BsrFusing::kAlways);
  for (const Sizes& s : {Sizes{768, 768, 768}, Sizes{384, 384, 384}}) {
    for (const std::int64_t b : {32, 64}) {
      CAPTURE(b);
      const Case mlp = case_of(s, b, 0.15, test::cut(40001, 300));
      REQUIRE(mlp.has_schedule());
      const Tensor once = mlp.on_gpu();
      for (int i = 0; i < 3; ++i) CHECK(test::same_bytes(mlp.on_gpu(), once));
      HEW_CHECK_CLOSE(once, mlp.reference(), test::unit_roundoff(DType::kBFloat16), mlp.absolute());
    }
  }
}

TEST_CASE("the two products that a block-sparse MLP else is are within the same bounds") {
  const Fusing fusing(BsrFusing::kNever);
  case_of({768, 1024, 768}, 64, 0.3, 300).check();
  case_of({200, 328, 136}, 32, 0.5, 97).check();
}

TEST_CASE("a wrong block of a fused MLP is noticed") {
  const Fusing fusing(BsrFusing::kAlways);
  for (const bool in_up : {true, false}) {
    CAPTURE(in_up);
    Case mlp = case_of({768, 1024, 768}, 64, 0.3, 100);
    mlp.check();
    const Tensor expected = mlp.reference();
    mlp.plant_wrong_block(in_up);
    CHECK_FALSE(
        test::compare(mlp.on_gpu(), expected, test::unit_roundoff(DType::kBFloat16), mlp.absolute())
            .ok);
  }
}

}  // namespace hew
