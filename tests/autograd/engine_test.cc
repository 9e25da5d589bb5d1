#include <doctest/doctest.h>

#include <algorithm>

#include "autograd/elementwise.h"
#include "autograd/gradcheck.h"
#include "autograd/variable.h"
#include "core/error.h"
#include "kernels/elementwise.h"
#include "kernels/folded_weight.h"
#include "tests/support/block_pattern.h"
#include "tests/support/compare.h"
#include "tests/support/device.h"
#include "tests/support/random.h"

namespace hew {
namespace {

ag::Variable product(const ag::Variable& a, const ag::Variable& b) {
  Tensor y = Tensor::empty(a.shape(), a.dtype(), a.stream());
  kernels::multiply(a.value(), b.value(), y, a.stream());
  return ag::record("product", y, {a, b},
                    [x = a.value(), w = b.value()](const Tensor& g, ag::Needs&) {
                      Tensor da = Tensor::empty(g.shape(), g.dtype(), g.stream());
                      Tensor db = Tensor::empty(g.shape(), g.dtype(), g.stream());
                      kernels::multiply(g, w, da, g.stream());
                      kernels::multiply(g, x, db, g.stream());
                      return std::vector<Tensor>{da, db};
                    });
}

ag::Variable same(const ag::Variable& a) {
  return ag::record("same", a.value(), {a},
                    [](const Tensor& g, ag::Needs&) { return std::vector<Tensor>{g}; });
}

bool same_value(const ag::Variable& a, const ag::Variable& b) {
  return a.value().view().data == b.value().view().data;
}

}  // namespace

TEST_CASE("gradients of a graph with shared inputs agree with central differences") {
  const Stream& stream = test::test_stream();
  const auto result = ag::gradcheck(
      [](const std::vector<ag::Variable>& in) {
        const ag::Variable square = product(in[0], in[0]);
        return product(product(square, same(square)), product(in[1], same(in[0])));
      },
      {test::random_tensor({3, 5}, DType::kFloat64, stream, 1),
       test::random_tensor({3, 5}, DType::kFloat64, stream, 2)});
  CHECK_MESSAGE(result.max_relative_error <= 1e-6, result.worst);
}

TEST_CASE("gradcheck finds a wrong rule and a NaN") {
  const Stream& stream = test::test_stream();
  const std::vector<Tensor> inputs{test::random_tensor({4}, DType::kFloat64, stream, 1)};
  auto planted = [&](double factor) {
    return ag::gradcheck(
        [factor](const std::vector<ag::Variable>& in) {
          return ag::record("planted", in[0].value(), {in[0]},
                            [factor](const Tensor& g, ag::Needs&) {
                              Tensor d = g.clone();
                              kernels::scale(factor, d, g.stream());
                              return std::vector<Tensor>{d};
                            });
        },
        inputs);
  };
  CHECK(planted(1.0).max_relative_error <= 1e-9);
  CHECK_FALSE(planted(1.00001).max_relative_error <= 1e-6);
  CHECK_FALSE(planted(NAN).max_relative_error <= 1e-6);
}

TEST_CASE("leaf gradients accumulate over sweeps and are never aliased") {
  const Stream& stream = test::test_stream();
  ag::Variable a(test::random_tensor({3}, DType::kFloat64, stream, 1), true);
  ag::Variable b(test::random_tensor({3}, DType::kFloat64, stream, 2), true);
  auto sum = [](const ag::Variable& x, const ag::Variable& y) {
    Tensor s = Tensor::empty(x.shape(), x.dtype(), x.stream());
    kernels::add(x.value(), y.value(), s, x.stream());
    return ag::record("sum", s, {x, y}, [](const Tensor& g, ag::Needs&) {
      return std::vector<Tensor>{g, g};
    });
  };
  ag::backward(sum(a, b));
  ag::backward(sum(a, sum(a, b)));
  CHECK(a.grad().to_vector<double>() == std::vector<double>{3, 3, 3});
  CHECK(b.grad().to_vector<double>() == std::vector<double>{2, 2, 2});
}

TEST_CASE("the engine sums a broadcast gradient and refuses one that does not fit") {
  const Stream& stream = test::test_stream();
  ag::Variable row(test::random_tensor({3}, DType::kFloat64, stream, 1), true);
  auto gives = [&](const Shape& shape, DType dtype) {
    return ag::record("gives", Tensor::zeros({}, DType::kFloat64, stream), {row},
                      [=](const Tensor&, ag::Needs&) {
                        Tensor g = Tensor::empty(shape, dtype, stream);
                        kernels::fill(1, g, stream);
                        return std::vector<Tensor>{g};
                      });
  };
  ag::backward(gives({5, 2, 3}, DType::kFloat64));
  CHECK(row.grad().to_vector<double>() == std::vector<double>{10, 10, 10});
  CHECK_THROWS_AS(ag::backward(gives({2}, DType::kFloat64)), ShapeError);
  CHECK_THROWS_AS(ag::backward(gives({3}, DType::kFloat32)), DtypeError);
}

TEST_CASE("a tape is swept once") {
  const Stream& stream = test::test_stream();
  ag::Variable a(test::random_tensor({3}, DType::kFloat64, stream, 1), true);
  const ag::Variable y = same(a);
  ag::backward(y);
  CHECK_THROWS_AS(ag::backward(y), Error);
  CHECK_THROWS_AS(ag::backward(a.detach()), Error);
}

TEST_CASE("a chain of 200,000 nodes neither overflows on backward nor on tear-down") {
  const Stream& stream = test::test_stream();
  ag::Variable a(Tensor::zeros({1}, DType::kFloat64, stream), true);
  {
    ag::Variable y = a;
    for (int i = 0; i < 200000; ++i) y = same(y);
    ag::backward(y);
  }
  CHECK(a.grad().to_vector<double>() == std::vector<double>{1});
}

TEST_CASE("a rule may take what others gave its input, and write over what is its own") {
  const Stream& stream = test::test_stream();
  const ag::Variable x(test::random_tensor({4}, DType::kFloat64, stream, 1),
                       /*requires_grad=*/true);
  int taken = 0;
  // y = x, whose rule adds to what it takes.
  auto taker = [&taken](const ag::Variable& a) {
    return ag::record("taker", a.value(), {a}, [&taken](const Tensor& g, ag::Needs& needs) {
      const ag::Needs::Gathered before = needs.take(0);
      if (!before.grad.defined())
        return std::vector<Tensor>{g};
      ++taken;
      Tensor sum = before.writable ? before.grad : Tensor::empty(g.shape(), g.dtype(), g.stream());
      kernels::add(before.grad, g, sum, g.stream());
      return std::vector<Tensor>{sum};
    });
  };
  const ag::Variable middle = same(x);
  // middle's gradient is first the seed itself, which the sum's other input shares.
  const ag::Variable sum = ag::add(taker(middle), ag::add(same(middle), taker(middle)));
  ag::backward(sum);
  CHECK(taken == 1);
  CHECK(x.grad().to_vector<double>() == std::vector<double>(4, 3.0));
}

TEST_CASE("a working copy has its master's gradient, and follows its changes") {
  const Stream& stream = test::test_stream();
  ag::Variable master(Tensor::from(std::vector<float>{1.001F, -3.0F}, {2}, stream),
                      /*requires_grad=*/true);
  const ag::Variable copy = master.working(DType::kBFloat16);
  CHECK(copy.dtype() == DType::kBFloat16);
  CHECK(static_cast<float>(copy.value().to_vector<BFloat16>()[0]) == 1.0F);
  CHECK(copy.key() == master.key());
  CHECK(same_value(master.working(DType::kBFloat16), copy));
  // An op on the copy gives float32 gradients; they are the master's.
  const ag::Variable y = ag::record("op", master.value(), {copy}, [](const Tensor& g, ag::Needs&) {
    return std::vector<Tensor>{g};
  });
  ag::backward(y);
  CHECK(master.grad().dtype() == DType::kFloat32);
  CHECK(master.grad().to_vector<float>() == std::vector<float>{1, 1});
  CHECK(master.update().working.defined());
  master.mutable_value().copy_from(Tensor::from(std::vector<float>{5, 6}, {2}, stream));
  CHECK_FALSE(master.update().working.defined());
  CHECK(static_cast<float>(master.working(DType::kBFloat16).value().to_vector<BFloat16>()[1]) ==
        6.0F);
  CHECK(same_value(master.working(DType::kFloat32), master));
}

TEST_CASE("who may write a leaf drops the dense copies that products keep of it") {
  const Stream& stream = test::test_stream();
  const test::BlockPattern pattern = test::one_block(16, 24, 8, 1, 2);
  const test::UploadedPattern uploaded(pattern, stream);
  ag::Variable master(test::random_tensor({1, 8, 8}, DType::kFloat64, stream, 1),
                      /*requires_grad=*/true);
  const ag::Variable other_handle = master;
  const auto keep = [&](const ag::Variable& leaf) {
    leaf.folded()->of(leaf.value(), uploaded.index(), stream);
    CHECK(leaf.folded()->kept().defined());
  };
  keep(master);
  CHECK(other_handle.folded() == master.folded());
  CHECK(master.detach().folded() != master.folded());
  const ag::Variable working = master.working(DType::kFloat32);
  keep(working);
  CHECK(master.folded() != working.folded());

  // In place: who holds it already sees it too.
  const auto held = master.folded();
  const auto held_working = working.folded();
  master.update();
  CHECK_FALSE(held->kept().defined());
  CHECK_FALSE(held_working->kept().defined());
  CHECK(master.folded() == held);
  keep(master);
  master.mutable_value();
  CHECK_FALSE(held->kept().defined());
  CHECK(master.working(DType::kFloat32).folded() != held_working);
}

TEST_CASE("a leaf is reported done once, after its last use") {
  const Stream& stream = test::test_stream();
  const ag::Variable a(test::random_tensor({4}, DType::kFloat64, stream, 1),
                       /*requires_grad=*/true);
  const ag::Variable b(test::random_tensor({4}, DType::kFloat64, stream, 2),
                       /*requires_grad=*/true);
  const ag::Variable y = product(product(a, b), same(a));
  std::vector<const void*> done;
  std::vector<double> seen;
  ag::backward(y, Tensor(), {.leaf_done = [&](const void* leaf) {
                 done.push_back(leaf);
                 if (leaf == a.key())
                   seen = a.grad().to_vector<double>();
               }});
  CHECK(done.size() == 2);
  CHECK(std::count(done.begin(), done.end(), a.key()) == 1);
  CHECK(seen == a.grad().to_vector<double>());
}

TEST_CASE("a value that can be made again is kept by nobody, and made once") {
  const Stream& stream = test::test_stream();
  // Many times what an allocator rounds the scalars up to.
  constexpr std::int64_t kCount = 4096;
  const ag::Variable x(test::random_tensor({kCount}, DType::kFloat64, stream, 1),
                       /*requires_grad=*/true);
  int made = 0;
  auto twice = [](const Tensor& t) {
    Tensor y = t.clone();
    kernels::scale(2, y, y.stream());
    return y;
  };
  ag::Variable y;
  const std::int64_t before = stream.allocator->stats().in_use;
  {
    ag::Variable middle = ag::with_remake(
        ag::record("twice", twice(x.value()), {x},
                   [twice](const Tensor& g, ag::Needs&) { return std::vector<Tensor>{twice(g)}; }),
        [&made, twice, t = x.value()] {
          ++made;
          return twice(t);
        });
    auto square = [](const ag::Variable& v) {
      Tensor value = Tensor::empty({}, v.dtype(), v.stream());
      kernels::fill(0, value, v.stream());
      return ag::record("square", value, {v}, [saved = ag::Saved(v)](const Tensor&, ag::Needs&) {
        return std::vector<Tensor>{saved.get().clone()};
      });
    };
    y = ag::add(square(middle), square(middle));
  }
  CHECK(stream.allocator->stats().in_use - before < kCount * 8);
  ag::backward(y);
  CHECK(made == 1);
  std::vector<double> expected = x.value().to_vector<double>();
  for (double& value : expected) value *= 8;
  CHECK(x.grad().to_vector<double>() == expected);
}

}  // namespace hew
