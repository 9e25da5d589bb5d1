#include "dist/reducer.h"

#include <doctest/doctest.h>

#include "core/error.h"
#include "dist/consistency.h"
#include "dist/slices.h"
#include "kernels/elementwise.h"
#include "tests/support/compare.h"
#include "tests/support/mpi_world.h"
#include "tests/support/random.h"

namespace hew {
namespace {

struct Layout {
  const char* name;
  Shape shape;
  DType dtype;
};

const std::vector<Layout>& layouts() {
  static const std::vector<Layout> all{{"a", {1}, DType::kFloat32},
                                       {"b", {17, 3}, DType::kFloat32},
                                       {"blocks", {5, 16, 16}, DType::kFloat32},
                                       {"c", {101}, DType::kFloat64},
                                       {"d", {7, 11}, DType::kFloat64},
                                       {"e", {10007}, DType::kFloat32},
                                       {"f", {2, 2}, DType::kFloat32}};
  return all;
}

Tensor gradient_of(std::size_t parameter, int rank, const Stream& stream) {
  const Layout& layout = layouts()[parameter];
  return test::random_tensor(layout.shape, layout.dtype, stream,
                             100 * parameter + static_cast<std::uint64_t>(rank));
}

// (1/size)·Σ_ranks, each rank's gradient made again here.
Tensor mean_gradient(std::size_t parameter, int ranks, const Stream& stream) {
  Tensor sum = gradient_of(parameter, 0, stream);
  for (int rank = 1; rank < ranks; ++rank) {
    kernels::add(sum, gradient_of(parameter, rank, stream), sum, stream);
  }
  kernels::scale(1.0 / ranks, sum, stream);
  return sum;
}

std::vector<ag::Parameter> make_parameters(int rank, const Stream& stream) {
  std::vector<ag::Parameter> out;
  for (std::size_t i = 0; i < layouts().size(); ++i) {
    const Layout& layout = layouts()[i];
    out.push_back({.name = layout.name,
                   .var = ag::Variable(Tensor::zeros(layout.shape, layout.dtype, stream),
                                       /*requires_grad=*/true)});
    out.back().var.grad() = gradient_of(i, rank, stream);
  }
  return out;
}

std::vector<ag::Parameter*> pointers_to(std::vector<ag::Parameter>& parameters) {
  std::vector<ag::Parameter*> out;
  for (ag::Parameter& p : parameters) out.push_back(&p);
  return out;
}

}  // namespace

TEST_CASE("gradients become their mean over ranks, whatever the bucket size") {
  dist::Communicator& comm = test::world();
  const Stream cpu = make_cpu_stream();
  const std::vector<dist::ReducerOptions> sizes{{.bucket_bytes = 1, .small_bytes = 0},
                                                {.bucket_bytes = 256, .small_bytes = 0},
                                                {.bucket_bytes = 256, .small_bytes = 200},
                                                {.bucket_bytes = 1 << 14, .small_bytes = 600},
                                                {}};
  for (const dist::ReducerOptions& options : sizes) {
    std::vector<ag::Parameter> parameters = make_parameters(comm.rank(), cpu);
    const std::vector<ag::Parameter*> all = pointers_to(parameters);
    dist::GradientReducer reducer(comm, options);
    reducer.average(all);
    std::int64_t bytes = 0;
    std::vector<std::pair<std::string, Tensor>> named;
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      const Tensor& grad = parameters[i].var.grad();
      HEW_CHECK_CLOSE(grad, mean_gradient(i, comm.size(), cpu), 1e-6, 1e-6);
      CHECK_FALSE(test::compare(grad, gradient_of(i, comm.rank(), cpu), 1e-6, 1e-6).ok);
      named.emplace_back(parameters[i].name, grad);
      bytes += grad.nbytes();
    }
    CHECK_NOTHROW(dist::check_equal(comm, named));
    CHECK(reducer.bytes_reduced() == bytes);
  }
}

TEST_CASE("buckets start as gradients come, in whatever order, and all ranks agree") {
  dist::Communicator& comm = test::world();
  const Stream cpu = make_cpu_stream();
  const std::size_t n = layouts().size();
  for (const std::int64_t bucket : {1, 600, 25 << 20}) {
    for (std::size_t stride : {1, 3, 6}) {  // 7 parameters: each an order of its own
      std::vector<ag::Parameter> parameters = make_parameters(comm.rank(), cpu);
      for (ag::Parameter& p : parameters) p.var.zero_grad();
      dist::GradientReducer reducer(comm,
                                    {.bucket_bytes = bucket, .small_bytes = stride == 3 ? 600 : 0});
      reducer.begin(pointers_to(parameters));
      const ag::Parameter stranger{.name = "x",
                                   .var = ag::Variable(Tensor::zeros({1}, DType::kFloat32, cpu))};
      reducer.ready(stranger);
      for (std::size_t i = 0; i < n; ++i) {
        const std::size_t which = i * stride % n;
        parameters[which].var.grad() = gradient_of(which, comm.rank(), cpu);
        if (i != 4)  // one that is complete without a word
          reducer.ready(parameters[which]);
      }
      reducer.finish();
      std::vector<std::pair<std::string, Tensor>> named;
      for (std::size_t i = 0; i < n; ++i) {
        HEW_CHECK_CLOSE(parameters[i].var.grad(), mean_gradient(i, comm.size(), cpu), 1e-6, 1e-6);
        named.emplace_back(parameters[i].name, parameters[i].var.grad());
      }
      CHECK_NOTHROW(dist::check_equal(comm, named));
    }
  }
}

TEST_CASE("a sliced reducer leaves each rank the mean of its own slices") {
  dist::Communicator& comm = test::world();
  const Stream cpu = make_cpu_stream();
  std::vector<ag::Parameter> parameters = make_parameters(comm.rank(), cpu);
  dist::GradientReducer reducer(comm, {.bucket_bytes = 600, .small_bytes = 0});
  reducer.average(pointers_to(parameters), dist::Share::kSlices);
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    Tensor& grad = parameters[i].var.grad();
    dist::gather_slices(comm, grad, cpu);
    HEW_CHECK_CLOSE(grad, mean_gradient(i, comm.size(), cpu), 1e-6, 1e-6);
  }
}

TEST_CASE("a live-block gradient costs its live blocks, a dense one all of them") {
  dist::Communicator& comm = test::world();
  const Stream cpu = make_cpu_stream();
  dist::GradientReducer reducer(comm);
  Tensor dense = Tensor::from(std::vector<double>(64, comm.rank() + 1.0), {8, 8}, cpu);
  reducer.average(dense);
  CHECK(dense.data<double>()[63] == (comm.size() + 1) / 2.0);
  CHECK(reducer.bytes_reduced() == 512);
  Tensor live = Tensor::zeros({2, 2, 2}, DType::kFloat64, cpu);
  reducer.average(live);
  CHECK(reducer.bytes_reduced() == 512 + 64);
}

TEST_CASE("a warm reducer asks the system for no memory") {
  dist::Communicator& comm = test::world();
  const Stream cpu = make_cpu_stream();
  std::vector<ag::Parameter> parameters = make_parameters(comm.rank(), cpu);
  const std::vector<ag::Parameter*> all = pointers_to(parameters);
  dist::GradientReducer reducer(comm);
  reducer.average(all);
  const std::int64_t before = cpu.allocator->stats().system_allocations;
  reducer.average(all);
  CHECK(cpu.allocator->stats().system_allocations == before);
}

TEST_CASE("a frozen parameter is passed over, a missing gradient is an error that names it") {
  const Stream cpu = make_cpu_stream();
  dist::LocalCommunicator local;
  for (dist::Communicator* comm : {&test::world(), static_cast<dist::Communicator*>(&local)}) {
    ag::Parameter frozen{.name = "frozen",
                         .var = ag::Variable(Tensor::zeros({3}, DType::kFloat32, cpu))};
    ag::Parameter lost{.name = "lost",
                       .var = ag::Variable(frozen.value().clone(), /*requires_grad=*/true)};
    dist::GradientReducer reducer(*comm);
    const std::vector<ag::Parameter*> fine{&frozen};
    CHECK_NOTHROW(reducer.average(fine));
    const std::vector<ag::Parameter*> bad{&frozen, &lost};
    CHECK_THROWS_WITH_AS(reducer.average(bad),
                         "[reducer] lost has no gradient: the loss does not depend on it", Error);
    CHECK(reducer.bytes_reduced() == 0);
    CHECK_THROWS_AS(dist::GradientReducer(*comm, {.bucket_bytes = 0}), ConfigError);
  }
}

}  // namespace hew
