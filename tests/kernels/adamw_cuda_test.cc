#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/adamw.h"
#include "tests/support/compare.h"
#include "tests/support/device.h"
#include "tests/support/random.h"
#include "tests/support/sizes.h"

namespace hew {
namespace {

struct Case {
  Shape shape;
  std::vector<std::int64_t> birth;
  bool working = false;
  bool shifted = false;  // starts off a 16-byte address
};

// Slices of all kinds: none, whole packs, odd, of one element, many in a chunk; chunks of 8192.
std::vector<Case> cases() {
  std::vector<std::int64_t> many(1009);
  for (std::size_t i = 0; i < many.size(); ++i) many[i] = -static_cast<std::int64_t>(i % 5);
  return {{{1}, {0}, true},           {{0}, {0}},
          {{7, 3}, {0}, true},        {{5003}, {-2}, false, true},
          {{8192}, {-1}, true},       {{5, 8, 8}, {0, 0, -3, 0, -3}, true},
          {{3, 61, 61}, {-1, 0, -4}}, {{3, 64, 64}, {-1, 0, -4}, true, true},
          {{1009}, many, true},       {{1009, 4, 4}, many},
          {{2, 9973}, {0, -7}, true}, {{test::cut(257, 17), 4099}, {-3}, true}};
}

// Rows [1, …) of a tensor with one more, whose rows are odd in number where it matters.
Tensor make(const Case& c, DType dtype, const Stream& stream) {
  if (!c.shifted)
    return Tensor::zeros(c.shape, dtype, stream);
  const std::int64_t n = c.shape.numel();
  return Tensor::zeros({n + 1}, dtype, stream).rows(1, n).reshape(c.shape);
}

// A parameter with what belongs to it, twice.
struct Parameter {
  Tensor g, birth, w, m, v, working;

  Parameter(const Case& c, DType dtype, DType moments, const Stream& stream)
      : g(make(c, dtype, stream)),
        birth(Tensor::from(c.birth, {std::ssize(c.birth)}, stream)),
        w(make(c, dtype, stream)),
        m(make(c, moments, stream)),
        v(make(c, moments, stream)) {
    if (c.working)
      working = make(c, DType::kBFloat16, stream);
  }
  kernels::AdamWTensors tensors(double weight_decay, double lr_factor) {
    return {.g = std::as_const(g),
            .birth = std::as_const(birth),
            .w = w,
            .m = m,
            .v = v,
            .working = working.defined() ? working.view() : View{},
            .weight_decay = weight_decay,
            .lr_factor = lr_factor};
  }
};

struct Run {
  std::vector<Parameter> here;
  std::vector<Parameter> there;
  std::vector<kernels::AdamWTensors> on_cpu;
  std::vector<kernels::AdamWTensors> on_gpu;

  Run(DType dtype, DType moments, const std::vector<Case>& list) {
    const Stream cpu = make_cpu_stream();
    for (std::size_t i = 0; i < list.size(); ++i) {
      here.emplace_back(list[i], dtype, moments, cpu);
      there.emplace_back(list[i], dtype, moments, test::gpu_stream());
      here[i].w.copy_from(test::random_tensor(list[i].shape, dtype, cpu, i));
      there[i].w.copy_from(here[i].w);
    }
    for (std::size_t i = 0; i < list.size(); ++i) {
      const double decay = i % 2 == 0 ? 0.1 : 0;
      const double lr_factor = i % 3 == 0 ? 2.5 : 1;
      on_cpu.push_back(here[i].tensors(decay, lr_factor));
      on_gpu.push_back(there[i].tensors(decay, lr_factor));
    }
  }
  void step(std::int64_t number, double scale) {
    const Stream cpu = make_cpu_stream();
    for (std::size_t i = 0; i < here.size(); ++i) {
      Tensor& g = here[i].g;
      g.copy_from(test::random_tensor(g.shape(), g.dtype(), cpu,
                                      100 * static_cast<std::uint64_t>(number + 1) + i));
      there[i].g.copy_from(g);
    }
    const Tensor scale_here = Tensor::from(std::vector<double>{scale}, {}, cpu);
    const Tensor scale_there = test::to(scale_here, test::gpu_stream());
    kernels::AdamWStep settings{.lr = 0.01, .beta1 = 0.9, .beta2 = 0.95, .step = number};
    settings.grad_scale = scale_here;
    kernels::adamw(settings, on_cpu, cpu);
    settings.grad_scale = scale_there;
    kernels::adamw(settings, on_gpu, test::gpu_stream());
  }
};

// Share of the elements that are not equal.
double differing(const Tensor& a, const Tensor& b) {
  const std::vector<BFloat16> x = a.to_vector<BFloat16>();
  const std::vector<BFloat16> y = b.to_vector<BFloat16>();
  std::int64_t count = 0;
  for (std::size_t i = 0; i < x.size(); ++i) count += x[i].bits != y[i].bits ? 1 : 0;
  return static_cast<double>(count) / static_cast<double>(std::max<std::size_t>(x.size(), 1));
}

}  // namespace

TEST_CASE_TEMPLATE("adamw on the GPU is that of the CPU, all parameters in one call", T, float,
                   double) {
  // A step is a dozen roundings; they add up over five.
  const double tolerance = 100 * static_cast<double>(std::numeric_limits<T>::epsilon());
  Run run(kDTypeOf<T>, kDTypeOf<T>, cases());
  for (std::int64_t step = 0; step < 5; ++step) run.step(step, 0.7);
  for (std::size_t i = 0; i < run.here.size(); ++i) {
    CAPTURE(i);
    Parameter& here = run.here[i];
    Parameter& there = run.there[i];
    HEW_CHECK_CLOSE(test::on_cpu(there.w), here.w, tolerance, tolerance);
    HEW_CHECK_CLOSE(test::on_cpu(there.m), here.m, tolerance, tolerance);
    HEW_CHECK_CLOSE(test::on_cpu(there.v), here.v, tolerance, tolerance);
    if (there.working.defined()) {
      CHECK(test::same_bytes(test::on_cpu(there.working),
                             test::rounded(test::on_cpu(there.w), DType::kBFloat16)));
    }
  }
}

TEST_CASE_TEMPLATE("moments in bfloat16 on the GPU", T, float, double) {
  Run run(kDTypeOf<T>, DType::kBFloat16, cases());
  for (std::int64_t step = 0; step < 3; ++step) run.step(step, 0.7);
  for (std::size_t i = 0; i < run.here.size(); ++i) {
    CAPTURE(i);
    const Tensor m = test::on_cpu(run.there[i].m);
    const Tensor v = test::on_cpu(run.there[i].v);
    // A difference in the last bit may be rounded to another neighbour, 2^-7 away, and from there
    // go to other values; that is rare, but for where a value is small beside the one before it.
    CHECK(differing(m, run.here[i].m) <= 1e-3);
    CHECK(differing(v, run.here[i].v) <= 1e-3);
    HEW_CHECK_CLOSE(m, run.here[i].m, 0x1p-6, 0x1p-7);
    HEW_CHECK_CLOSE(v, run.here[i].v, 0x1p-6, 1e-6);
    HEW_CHECK_CLOSE(test::on_cpu(run.there[i].w), run.here[i].w, 1e-5, 3 * 0.01 * 0x1p-6);
  }
}

TEST_CASE("a scale that is not finite leaves everything as it was, on the GPU") {
  const std::vector<Case> list{{{3, 61}, {0, -1, 0}, true}, {{10007}, {0}}};
  Run run(DType::kFloat32, DType::kFloat32, list);
  run.step(0, 1);
  std::vector<Tensor> before;
  for (Parameter& p : run.there) {
    for (const Tensor& t : {p.w, p.m, p.v}) before.push_back(t.clone());
  }
  for (const double scale : {std::nan(""), HUGE_VAL, -HUGE_VAL}) {
    run.step(1, scale);
    std::size_t i = 0;
    for (Parameter& p : run.there) {
      for (const Tensor& t : {p.w, p.m, p.v}) {
        CHECK(test::same_bytes(test::on_cpu(t), test::on_cpu(before[i++])));
      }
    }
  }
}

TEST_CASE("more parameters than a block has threads") {
  std::vector<Case> list;
  for (std::int64_t i = 0; i < 700; ++i) {
    list.push_back({.shape = {i % 13 == 0 ? 0 : i % 101 + 1}, .birth = {-i}});
  }
  Run run(DType::kFloat32, DType::kFloat32, list);
  run.step(0, 1);
  for (std::size_t i = 0; i < list.size(); ++i) {
    HEW_CHECK_CLOSE(test::on_cpu(run.there[i].w), run.here[i].w, 1e-5, 1e-5);
  }
}

}  // namespace hew
