#include "train/rank_optimizer.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <span>

#include "core/error.h"
#include "dist/reducer.h"
#include "dist/slices.h"
#include "kernels/folded_weight.h"
#include "tests/support/block_pattern.h"
#include "tests/support/compare.h"
#include "tests/support/mpi_world.h"
#include "tests/support/random.h"

namespace hew {
namespace {

// Short and long, even and uneven over 2 and 4 ranks, and block-sparse ones with few and many
// blocks.
const std::vector<Shape>& shapes() {
  static const std::vector<Shape> all{{1},       {7, 19},   {512},     {33, 31},
                                      {1024, 2}, {1, 8, 8}, {11, 8, 8}};
  return all;
}

struct Model {
  std::vector<ag::Parameter> parameters;

  Model(DType dtype, const Stream& stream) {
    for (std::size_t i = 0; i < shapes().size(); ++i) {
      parameters.push_back({.name = fmt::format("p{}", i),
                            .var = ag::Variable(test::random_tensor(shapes()[i], dtype, stream, i),
                                                /*requires_grad=*/true),
                            .weight_decay = i % 2 == 0});
    }
  }

  std::vector<ag::Parameter*> pointers() {
    std::vector<ag::Parameter*> out;
    for (ag::Parameter& p : parameters) out.push_back(&p);
    return out;
  }

  // Each rank's own gradients at a step.
  void differentiate(std::uint64_t step, int rank) {
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      const Tensor& value = parameters[i].value();
      parameters[i].var.grad() =
          test::random_tensor(value.shape(), value.dtype(), value.stream(),
                              1000 * step + 10 * i + static_cast<std::uint64_t>(rank));
    }
  }
};

void check_same_state(const optim::NamedTensors& got, const optim::NamedTensors& expected,
                      double tolerance) {
  REQUIRE(got.size() == expected.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    CHECK(got[i].first == expected[i].first);
    if (got[i].second.dtype() != DType::kInt64) {
      HEW_CHECK_CLOSE(got[i].second, expected[i].second, tolerance, tolerance);
    } else if (got[i].second.numel() == expected[i].second.numel()) {
      CHECK(test::same_bytes(got[i].second, expected[i].second));
    }
  }
}

}  // namespace

TEST_CASE_TEMPLATE("sharded updates are those of whole parameters", T, float, double) {
  dist::Communicator& comm = test::world();
  const Stream cpu = make_cpu_stream();
  const DType dtype = kDTypeOf<T>;
  for (const optim::OptimizerKind kind :
       {optim::OptimizerKind::kAdamW, optim::OptimizerKind::kSgd}) {
    const optim::OptimConfig plain{.kind = kind, .lr = 1e-2, .clip_norm = 1, .schedule = {}};
    optim::OptimConfig shared = plain;
    shared.shard = true;
    Model expected(dtype, cpu);
    Model model(dtype, cpu);
    train::RankOptimizer whole(plain, expected.pointers(), comm);
    train::RankOptimizer sharded(shared, model.pointers(), comm);
    CHECK_FALSE(whole.sharded());
    CHECK(sharded.sharded() == (comm.size() > 1));
    dist::GradientReducer reducer(comm, {.bucket_bytes = 2000, .small_bytes = 0});
    // Two ranks add in one order only; more round differently.
    const double tolerance =
        comm.size() <= 2 ? 0 : 64 * static_cast<double>(std::numeric_limits<T>::epsilon());
    // The last parameter as all blocks of a row.
    const test::BlockPattern row =
        test::make_pattern(8, 11 * 8, 8, [](std::int64_t, std::int64_t) { return true; });
    for (std::uint64_t step = 0; step < 3; ++step) {
      for (const Model* m : {&expected, &model}) {
        const ag::Variable& blocks = m->parameters.back().var;
        blocks.folded()->of(blocks.value(), row.index(), cpu);
      }
      expected.differentiate(step, comm.rank());
      model.differentiate(step, comm.rank());
      reducer.average(expected.pointers());
      reducer.average(model.pointers(), dist::Share::kSlices);
      const train::SlicedNorm norm = whole.gradient_norm(plain.clip_norm);
      const train::SlicedNorm norm_of_slices = sharded.gradient_norm(plain.clip_norm);
      CHECK(std::abs(norm_of_slices.norm() / norm.norm() - 1) < 1e-6);
      CHECK(norm_of_slices.bad() == nullptr);
      const ConstView scale = norm.scale();  // one for both, since its sums round differently
      whole.step(1e-2, scale);
      sharded.step(1e-2, scale);
      for (const Model* m : {&expected, &model})
        CHECK_FALSE(m->parameters.back().var.folded()->kept().defined());
      for (std::size_t i = 0; i < shapes().size(); ++i) {
        HEW_CHECK_CLOSE(model.parameters[i].value(), expected.parameters[i].value(), tolerance,
                        tolerance);
      }
    }
    const optim::NamedTensors state = sharded.state();
    if (comm.rank() == 0)
      check_same_state(state, whole.state(), tolerance);
    if (sharded.sharded())
      CHECK(sharded.common_state().size() == 1);
    // All ranks' moments are the whole's; of steps and births, int64 each, every rank has its own.
    const std::vector<std::int64_t> bytes = dist::gather_of_ranks(comm, sharded.state_bytes());
    const auto numbers = static_cast<std::int64_t>(1 + shapes().size());
    CHECK(std::accumulate(bytes.begin(), bytes.end(), std::int64_t{0}) ==
          whole.state_bytes() + (comm.size() - 1) * numbers * 8);
  }
}

TEST_CASE("a mask refresh and a checkpoint work on slices as on whole parameters") {
  dist::Communicator& comm = test::world();
  const Stream cpu = make_cpu_stream();
  const optim::OptimConfig plain{.lr = 1e-2, .schedule = {}};
  optim::OptimConfig shared = plain;
  shared.shard = true;
  Model expected(DType::kFloat64, cpu);
  Model model(DType::kFloat64, cpu);
  train::RankOptimizer whole(plain, expected.pointers(), comm);
  train::RankOptimizer sharded(shared, model.pointers(), comm);
  auto both = [&](std::uint64_t step) {
    expected.differentiate(step, /*rank=*/0);  // as if averaged
    model.differentiate(step, /*rank=*/0);
    whole.step(1e-2);
    sharded.step(1e-2);
  };
  auto refresh = [&](const std::vector<std::int64_t>& source, std::uint64_t seed) {
    const auto blocks = static_cast<std::int64_t>(source.size());
    for (Model* m : {&expected, &model}) {
      m->parameters[6].var.mutable_value() =
          test::random_tensor({blocks, 8, 8}, DType::kFloat64, cpu, seed);
    }
    whole.remap("p6", source);
    sharded.remap("p6", source);
  };
  auto check_same = [&] {
    for (std::size_t i = 0; i < shapes().size(); ++i) {
      CHECK(test::same_bytes(model.parameters[i].value(), expected.parameters[i].value()));
    }
    const optim::NamedTensors state = sharded.state();
    if (comm.rank() == 0)
      check_same_state(state, whole.state(), 0);
  };
  both(0);
  refresh({10, -1, 3, 4, -1, 0, 1}, 50);
  both(1);
  refresh({6, 1, -1, 0, 5, 2, -1, -1, 3}, 51);
  both(2);
  check_same();

  // From whole to sharded and back.
  const optim::NamedTensors saved = whole.state();
  train::RankOptimizer resumed(shared, model.pointers(), comm);
  resumed.load(saved);
  CHECK(resumed.steps() == 3);
  expected.differentiate(3, 0);
  model.differentiate(3, 0);
  whole.step(1e-2);
  resumed.step(1e-2);
  for (std::size_t i = 0; i < shapes().size(); ++i) {
    CHECK(test::same_bytes(model.parameters[i].value(), expected.parameters[i].value()));
  }
  CHECK(resumed.state_names().size() == saved.size());
  optim::NamedTensors broken = saved;
  broken.back().second = Tensor::zeros({3}, DType::kFloat64, cpu);
  CHECK_THROWS_AS(resumed.load(broken), DataError);
}

TEST_CASE("a gradient that is not finite is found in any slice, by all ranks") {
  dist::Communicator& comm = test::world();
  const Stream cpu = make_cpu_stream();
  optim::OptimConfig shared{.lr = 1e-2, .schedule = {}};
  shared.shard = true;
  for (const std::int64_t at : {0, 300, 700, 1022}) {
    Model model(DType::kFloat32, cpu);
    train::RankOptimizer sharded(shared, model.pointers(), comm);
    model.differentiate(0, 0);
    model.parameters[3].var.grad().data<float>()[at] = std::numeric_limits<float>::quiet_NaN();
    const train::SlicedNorm norm = sharded.gradient_norm(1);
    CHECK(std::isnan(norm.norm()));
    CHECK(norm.bad() == &model.parameters[3]);
    const Tensor before = model.parameters[4].value().clone();
    sharded.step(1e-2, norm.scale());
    CHECK(test::same_bytes(model.parameters[4].value(), before));
  }
}

}  // namespace hew
