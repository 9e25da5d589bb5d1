#include "dist/consistency.h"

#include <doctest/doctest.h>

#include <numeric>

#include "core/error.h"
#include "kernels/folded_weight.h"
#include "tests/support/block_pattern.h"
#include "tests/support/compare.h"
#include "tests/support/mpi_world.h"
#include "tests/support/random.h"

namespace hew {
namespace {

using NamedTensors = std::vector<std::pair<std::string, Tensor>>;

// Equal on all ranks: two values and the column index of a mask.
NamedTensors make_tensors(const Stream& stream) {
  std::vector<std::int32_t> columns(1009);
  std::iota(columns.begin(), columns.end(), 0);
  return {{"blocks.0.weight", test::random_tensor({127, 33}, DType::kFloat32, stream, 1)},
          {"blocks.1.weight", test::random_tensor({3, 8, 8}, DType::kFloat64, stream, 2)},
          {"blocks.1.weight.col", Tensor::from(columns, {1009}, stream)}};
}

void flip_bit(Tensor& t, std::int64_t byte) {
  static_cast<unsigned char*>(t.view().data)[byte] ^= 1U;
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

TEST_CASE("equal tensors pass") {
  const Stream cpu = make_cpu_stream();
  CHECK_NOTHROW(dist::check_equal(test::world(), make_tensors(cpu)));
  CHECK_NOTHROW(dist::check_equal(test::world(), {}));
}

TEST_CASE("one flipped bit fails on every rank, with the rank and the tensor named") {
  dist::Communicator& comm = test::world();
  const Stream cpu = make_cpu_stream();
  for (int planted = 1; planted < comm.size(); ++planted) {
    for (std::size_t i = 0; i < 3; ++i) {
      NamedTensors tensors = make_tensors(cpu);
      if (comm.rank() == planted)
        flip_bit(tensors[i].second, tensors[i].second.nbytes() - 1);
      CHECK(message_of([&] { dist::check_equal(comm, tensors); }) ==
            fmt::format("[consistency] {} on rank {} differs from the other ranks",
                        tensors[i].first, planted));
    }
  }
  // The majority is right; between two ranks it is rank 0.
  NamedTensors tensors = make_tensors(cpu);
  if (comm.rank() == 0)
    flip_bit(tensors[1].second, 0);
  CHECK(message_of([&] { dist::check_equal(comm, tensors); }) ==
        fmt::format("[consistency] blocks.1.weight on rank {} differs from the other ranks",
                    comm.size() == 2 ? 1 : 0));
}

TEST_CASE("another shape, name or number of tensors fails on every rank") {
  dist::Communicator& comm = test::world();
  const Stream cpu = make_cpu_stream();
  const bool planted = comm.rank() == comm.size() - 1;
  const std::string where =
      fmt::format(" on rank {} differs from the other ranks", comm.size() - 1);
  NamedTensors shaped = make_tensors(cpu);
  if (planted)
    shaped[0].second = shaped[0].second.reshape({33, 127});
  CHECK(message_of([&] { dist::check_equal(comm, shaped); }) ==
        "[consistency] blocks.0.weight" + where);
  NamedTensors named = make_tensors(cpu);
  if (planted)
    named[0].first = "blocks.2.weight";
  CHECK(message_of([&] { dist::check_equal(comm, named); }) ==
        "[consistency] the list of tensors" + where);
  NamedTensors fewer = make_tensors(cpu);
  if (planted)
    fewer.pop_back();
  CHECK(message_of([&] { dist::check_equal(comm, fewer); }) ==
        "[consistency] the list of tensors" + where);
}

TEST_CASE("broadcast drops the dense copies that products keep of live blocks") {
  dist::Communicator& comm = test::world();
  const Stream cpu = make_cpu_stream();
  const test::BlockPattern pattern = test::one_block(16, 24, 8, 1, 2);
  ag::Parameter weight{
      .name = "w",
      .var = ag::Variable(test::random_tensor({1, 8, 8}, DType::kFloat32, cpu,
                                              static_cast<std::uint64_t>(comm.rank())),
                          /*requires_grad=*/true)};
  const auto folded = weight.var.folded();
  folded->of(weight.value(), pattern.index(), cpu);
  const std::vector<ag::Parameter*> all{&weight};
  dist::broadcast_parameters(comm, all);
  CHECK_FALSE(folded->kept().defined());
}

TEST_CASE("broadcast gives every rank rank 0's parameters") {
  dist::Communicator& comm = test::world();
  const Stream cpu = make_cpu_stream();
  std::vector<ag::Parameter> parameters(2);
  for (std::size_t i = 0; i < 2; ++i) {
    const std::uint64_t seed = 10 * i + static_cast<std::uint64_t>(comm.rank());
    parameters[i] = {.name = fmt::format("w{}", i),
                     .var = ag::Variable(test::random_tensor({5, 7}, DType::kFloat32, cpu, seed),
                                         /*requires_grad=*/true)};
  }
  const std::vector<ag::Parameter*> all{&parameters[0], &parameters[1]};
  dist::broadcast_parameters(comm, all);
  for (std::size_t i = 0; i < 2; ++i) {
    CHECK(test::same_bytes(parameters[i].value(),
                           test::random_tensor({5, 7}, DType::kFloat32, cpu, 10 * i)));
  }

  const bool planted = comm.rank() == comm.size() - 1;
  const Tensor before = parameters[0].value().clone();
  if (planted)
    parameters[1].var.mutable_value() = Tensor::zeros({7, 5}, DType::kFloat32, cpu);
  CHECK(message_of([&] { dist::broadcast_parameters(comm, all); }) ==
        fmt::format("[consistency] the shape of w1 on rank {} differs from the other ranks",
                    comm.size() - 1));
  CHECK(test::same_bytes(parameters[0].value(), before));
}

}  // namespace hew
