#include "optim/optimizer.h"

#include <doctest/doctest.h>

#include <cmath>

#include "core/error.h"
#include "optim/adamw.h"
#include "optim/make_optimizer.h"
#include "optim/sgd.h"
#include "tests/support/compare.h"
#include "tests/support/device.h"
#include "tests/support/random.h"

namespace hew {
namespace {

ag::Parameter make_parameter(const std::string& name, const Shape& shape, std::uint64_t seed,
                             bool weight_decay = false) {
  const Stream& stream = test::test_stream();
  return {.name = name,
          .var = ag::Variable(test::random_tensor(shape, DType::kFloat32, stream, seed),
                              /*requires_grad=*/true),
          .weight_decay = weight_decay};
}

void set_gradient(ag::Parameter& p, std::uint64_t seed) {
  p.var.grad() = test::random_tensor(p.value().shape(), DType::kFloat32, p.value().stream(), seed);
}

// A copy of some rows of the leading dimension; −1 gives zeros.
Tensor pick(const Tensor& t, const std::vector<std::int64_t>& source) {
  std::vector<std::int64_t> extents(t.shape().begin(), t.shape().end());
  extents[0] = static_cast<std::int64_t>(source.size());
  Tensor out = Tensor::zeros(Shape(extents), t.dtype(), t.stream());
  for (std::size_t p = 0; p < source.size(); ++p) {
    if (source[p] >= 0) {
      out.rows(static_cast<std::int64_t>(p), 1).copy_from(t.rows(source[p], 1));
    }
  }
  return out;
}

std::vector<std::unique_ptr<optim::Optimizer>> both_kinds(
    const std::vector<ag::Parameter*>& parameters) {
  std::vector<std::unique_ptr<optim::Optimizer>> out;
  optim::OptimConfig config;
  for (const auto kind : {optim::OptimizerKind::kAdamW, optim::OptimizerKind::kSgd}) {
    config.kind = kind;
    out.push_back(optim::make_optimizer(config, parameters));
  }
  return out;
}

std::string message_of(const auto& body) {
  try {
    body();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

}  // namespace

TEST_CASE("weight decay goes to the group that wants it, and only there") {
  for (const bool adamw : {true, false}) {
    ag::Parameter weight = make_parameter("weight", {4, 4}, 1, /*weight_decay=*/true);
    ag::Parameter bias = make_parameter("bias", {4, 4}, 1);
    const Tensor before = weight.value().clone();
    const std::vector<ag::Parameter*> all{&weight, &bias};
    std::unique_ptr<optim::Optimizer> optimizer;
    if (adamw) {
      optimizer = std::make_unique<optim::AdamW>(all, optim::AdamWOptions{.weight_decay = 0.5});
    } else {
      optimizer = std::make_unique<optim::Sgd>(all, optim::SgdOptions{.weight_decay = 0.5});
    }
    for (ag::Parameter* p : all) {
      p->var.grad() = Tensor::zeros({4, 4}, DType::kFloat32, p->value().stream());
    }
    optimizer->step(/*lr=*/0.1);
    CHECK(test::same_bytes(bias.value(), before));
    std::vector<float> decayed = before.to_vector<float>();
    for (float& x : decayed) x *= 0.95F;
    HEW_CHECK_CLOSE(weight.value(), Tensor::from(decayed, {4, 4}, before.stream()), 1e-6);
  }
}

TEST_CASE("a parameter without a gradient is left alone and does not age") {
  ag::Parameter late = make_parameter("late", {3, 5}, 1, /*weight_decay=*/true);
  ag::Parameter fresh = make_parameter("late", {3, 5}, 1, /*weight_decay=*/true);
  const Tensor before = late.value().clone();
  optim::AdamW optimizer({&late}, {.weight_decay = 0.1});
  optim::AdamW reference({&fresh}, {.weight_decay = 0.1});
  for (int i = 0; i < 3; ++i) optimizer.step(0.01);
  CHECK(test::same_bytes(late.value(), before));
  for (std::uint64_t i = 0; i < 5; ++i) {
    set_gradient(late, 10 + i);
    set_gradient(fresh, 10 + i);
    optimizer.step(0.01);
    reference.step(0.01);
  }
  CHECK(test::same_bytes(late.value(), fresh.value()));
  CHECK(optimizer.steps() == 8);
}

TEST_CASE("the gradient's scale is applied as it is read") {
  ag::Parameter a = make_parameter("w", {37}, 1);
  ag::Parameter b = make_parameter("w", {37}, 1);
  for (ag::Parameter* p : {&a, &b}) set_gradient(*p, 2);
  const Tensor gradient = a.var.grad().clone();
  auto scaled = gradient.to_vector<float>();
  for (float& x : scaled) x *= 0.25F;
  b.var.grad() = Tensor::from(scaled, {37}, gradient.stream());
  optim::AdamW one({&a}, {});
  optim::AdamW two({&b}, {});
  one.step(0.01, Tensor::from(std::vector<double>{0.25}, {}, gradient.stream()));
  two.step(0.01);
  CHECK(test::same_bytes(a.value(), b.value()));
  CHECK(test::same_bytes(a.var.grad(), gradient));
}

TEST_CASE("moments in bfloat16 follow blocks, storage and checkpoints") {
  const optim::AdamWOptions options{.beta2 = 0.95, .moments = DType::kBFloat16};
  ag::Parameter p = make_parameter("w", {3, 2}, 1);
  ag::Parameter exact = make_parameter("w", {3, 2}, 1);
  optim::AdamW optimizer({&p}, options);
  optim::AdamW reference({&exact}, {.beta2 = 0.95});
  for (std::uint64_t step = 0; step < 5; ++step) {
    set_gradient(p, step);
    set_gradient(exact, step);
    optimizer.step(0.01);
    reference.step(0.01);
  }
  CHECK(optimizer.moment("w", "m").dtype() == DType::kBFloat16);
  for (const char* slot : {"m", "v"}) {
    // Five roundings of half a unit each.
    HEW_CHECK_CLOSE(optimizer.moment("w", slot), reference.moment("w", slot), 5 * 0x1p-8, 1e-2);
  }
  const Tensor m = optimizer.moment("w", "m").clone();
  const std::vector<std::int64_t> source{2, -1, 0};
  p.var.mutable_value() = pick(p.value(), source);
  optimizer.remap("w", source);
  CHECK(test::same_bytes(optimizer.moment("w", "m"), pick(m, source)));

  optim::AdamW loaded({&p}, options);
  loaded.load(optimizer.state());
  CHECK(test::same_bytes(loaded.moment("w", "v"), optimizer.moment("w", "v")));
  optim::AdamW wide({&p}, {});
  CHECK(message_of([&] { wide.load(optimizer.state()); }) ==
        "[optimizer] saved m/w is bfloat16 [3, 2], expected float32 [3, 2]");

  optim::AdamW whole({&exact}, options);
  whole.convert("w", [](const Tensor& moment) { return moment.clone(); });
  CHECK(whole.moment("w", "v").dtype() == DType::kBFloat16);
  CHECK_THROWS_AS(optim::AdamW({&p}, {.beta2 = 0.999, .moments = DType::kBFloat16}), ConfigError);
}

TEST_CASE("a scale that is not finite leaves values and moments alone") {
  ag::Parameter p = make_parameter("w", {5}, 1, /*weight_decay=*/true);
  for (const auto& optimizer : both_kinds({&p})) {
    set_gradient(p, 1);
    optimizer->step(0.1);
    const Tensor before = p.value().clone();
    optim::NamedTensors state;
    for (const auto& [name, tensor] : optimizer->state()) state.emplace_back(name, tensor.clone());
    optimizer->step(0.1, Tensor::from(std::vector<double>{std::nan("")}, {}, before.stream()));
    CHECK(test::same_bytes(p.value(), before));
    for (const auto& [name, tensor] : optimizer->state()) {
      if (name != "steps")
        CHECK(test::same_bytes(tensor, state.front().second));
      state.erase(state.begin());
    }
  }
}

TEST_CASE("remap permutes, drops and grows blocks together with their state") {
  // Blocks of the changed parameter live on as if each were a parameter of its own: the reference
  // trains every block alone, and a grown one from a fresh optimizer.
  for (const std::size_t kind : {0U, 1U}) {
    ag::Parameter p = make_parameter("w", {4, 8, 8}, 1, /*weight_decay=*/true);
    std::vector<ag::Parameter> alone;
    for (std::int64_t i = 0; i < 4; ++i) {
      alone.push_back(make_parameter("w", {1, 8, 8}, 0, /*weight_decay=*/true));
      alone.back().var.mutable_value() = p.value().rows(i, 1).clone();
    }
    auto optimizer = std::move(both_kinds({&p})[kind]);
    std::vector<std::unique_ptr<optim::Optimizer>> references;
    for (ag::Parameter& a : alone) references.push_back(std::move(both_kinds({&a})[kind]));
    auto train = [&](std::uint64_t from, std::uint64_t to, const std::vector<std::size_t>& order) {
      for (std::uint64_t step = from; step < to; ++step) {
        set_gradient(p, 100 + step);
        optimizer->step(0.01);
        for (std::size_t i = 0; i < order.size(); ++i) {
          alone[order[i]].var.grad() = p.var.grad().rows(static_cast<std::int64_t>(i), 1);
          references[order[i]]->step(0.01);
        }
      }
      for (std::size_t i = 0; i < order.size(); ++i) {
        CHECK(test::same_bytes(p.value().rows(static_cast<std::int64_t>(i), 1),
                               alone[order[i]].value()));
      }
    };
    train(0, 7, {0, 1, 2, 3});

    const std::vector<std::int64_t> source{3, -1, 0};  // 1 and 2 die, one grows between
    p.var.mutable_value() = pick(p.value(), source);
    optimizer->remap("w", source);
    alone.push_back(make_parameter("w", {1, 8, 8}, 0, /*weight_decay=*/true));
    alone.back().var.mutable_value().fill_zero();
    references.push_back(std::move(both_kinds({&alone.back()})[kind]));
    for (std::size_t i = 0; i < 5; ++i) references[i]->set_parameters({&alone[i]});
    CHECK(optimizer->birth("w").to_vector<std::int64_t>() == std::vector<std::int64_t>{0, 7, 0});
    train(7, 12, {3, 4, 0});

    const std::vector<std::int64_t> again{2, 1};
    p.var.mutable_value() = pick(p.value(), again);
    optimizer->remap("w", again);
    CHECK(optimizer->birth("w").to_vector<std::int64_t>() == std::vector<std::int64_t>{0, 7});
    train(12, 20, {0, 4});
  }
}

TEST_CASE("remap refuses sources that do not fit, and step a value that changed behind its back") {
  ag::Parameter p = make_parameter("w", {4, 2}, 1);
  for (const auto& optimizer : both_kinds({&p})) {
    p.var.mutable_value() = Tensor::zeros({3, 2}, DType::kFloat32, p.value().stream());
    CHECK_THROWS_AS(optimizer->remap("w", std::vector<std::int64_t>{0, 1}), ShapeError);
    CHECK_THROWS_AS(optimizer->remap("w", std::vector<std::int64_t>{0, 1, 4}), ShapeError);
    CHECK_THROWS_AS(optimizer->remap("w", std::vector<std::int64_t>{0, 1, -2}), ShapeError);
    CHECK_THROWS_AS(optimizer->remap("v", std::vector<std::int64_t>{0}), ConfigError);
    set_gradient(p, 1);
    CHECK(message_of([&] { optimizer->step(0.1); }) ==
          "[optimizer] w has shape [3, 2], but its moments have [4, 2]");
    optimizer->remap("w", std::vector<std::int64_t>{0, 1, 3});
    optimizer->step(0.1);
    p.var.mutable_value() = Tensor::zeros({4, 2}, DType::kFloat32, p.value().stream());
  }
}

TEST_CASE("a dense master's moments follow it into live blocks; forgotten names are gone") {
  ag::Parameter weight = make_parameter("w", {4, 2}, 1);
  ag::Parameter scores = make_parameter("w.scores", {2, 1}, 2);
  optim::AdamW optimizer({&weight, &scores}, {});
  set_gradient(weight, 3);
  set_gradient(scores, 4);
  optimizer.step(0.1);
  const Tensor m = optimizer.moment("w", "m").clone();

  auto fold = [](const Tensor& dense) { return dense.rows(2, 2).clone().reshape({1, 2, 2}); };
  weight.var.mutable_value() = fold(weight.value());
  CHECK_THROWS_AS(optimizer.convert("w", [](const Tensor& t) { return t; }), ShapeError);
  optimizer.convert("w", fold);
  optimizer.set_parameters({&weight});
  CHECK(test::same_bytes(optimizer.moment("w", "m"), fold(m)));
  CHECK_THROWS_AS(optimizer.moment("w.scores", "m"), ConfigError);
  CHECK_THROWS_AS(optimizer.moment("w", "momentum"), ConfigError);
  set_gradient(weight, 5);
  optimizer.step(0.1);
  CHECK_THROWS_AS(optimizer.set_parameters({&weight, &weight}), ConfigError);
}

TEST_CASE("state goes through load and on, bit for bit") {
  for (const std::size_t kind : {0U, 1U}) {
    ag::Parameter a = make_parameter("a", {3, 8, 8}, 1);
    ag::Parameter b = make_parameter("b", {5}, 2);
    const std::vector<ag::Parameter*> all{&a, &b};
    auto straight = std::move(both_kinds(all)[kind]);
    auto train = [&](optim::Optimizer& optimizer, std::uint64_t from, std::uint64_t to) {
      for (std::uint64_t step = from; step < to; ++step) {
        set_gradient(a, 100 + step);
        set_gradient(b, 200 + step);
        optimizer.step(0.01);
      }
    };
    train(*straight, 0, 5);
    const std::vector<std::int64_t> source{1, -1, 2};
    a.var.mutable_value() = pick(a.value(), source);
    straight->remap("a", source);
    train(*straight, 5, 8);
    optim::NamedTensors saved;
    for (const auto& [name, tensor] : straight->state()) saved.emplace_back(name, tensor.clone());
    const Tensor saved_a = a.value().clone();
    const Tensor saved_b = b.value().clone();
    train(*straight, 8, 16);
    const Tensor end_a = a.value().clone();
    const Tensor end_b = b.value().clone();

    for (const bool leave_out : {false, true}) {
      a.var.mutable_value() = saved_a.clone();
      b.var.mutable_value() = saved_b.clone();
      auto resumed = std::move(both_kinds(all)[kind]);
      if (!leave_out)
        resumed->load(saved);
      train(*resumed, 8, 16);
      CHECK(test::same_bytes(a.value(), end_a) == !leave_out);
      CHECK(test::same_bytes(b.value(), end_b) == !leave_out);
      if (!leave_out)
        CHECK(resumed->steps() == 16);
    }
  }
}

TEST_CASE("load names what is missing, left over or of another shape, and then changes nothing") {
  ag::Parameter p = make_parameter("w", {3, 2}, 1);
  const Stream& stream = test::test_stream();
  optim::AdamW optimizer({&p}, {});
  set_gradient(p, 1);
  optimizer.step(0.1);
  const optim::NamedTensors good = optimizer.state();
  const Tensor m = optimizer.moment("w", "m").clone();
  auto load_with = [&](const std::string& name, const Tensor& tensor, bool replace) {
    optim::NamedTensors state;
    for (const auto& entry : good) {
      if (entry.first != name || !replace)
        state.push_back(entry);
    }
    if (tensor.defined())
      state.emplace_back(name, tensor);
    return message_of([&] { optimizer.load(state); });
  };
  CHECK(load_with("v/w", {}, true) == "[optimizer] the saved state has no v/w");
  CHECK(load_with("steps", {}, true) == "[optimizer] the saved state has no steps");
  CHECK(load_with("m/x", m, false) ==
        "[optimizer] the saved state has m/x, which no parameter wants");
  CHECK(load_with("m/w", m.reshape({2, 3}), true) ==
        "[optimizer] saved m/w is float32 [2, 3], expected float32 [3, 2]");
  CHECK(load_with("birth/w", Tensor::zeros({2}, DType::kInt64, stream), true) ==
        "[optimizer] saved birth/w is int64 [2], expected int64 [1]");
  CHECK(load_with("birth/w", Tensor::from(std::vector<std::int64_t>{2}, {1}, stream), true) ==
        "[optimizer] saved birth/w holds 2, past step 1");
  CHECK(test::same_bytes(optimizer.moment("w", "m"), m));
  CHECK(optimizer.steps() == 1);
}

}  // namespace hew
