#include "dist/comm.h"

#include <doctest/doctest.h>

#include <array>
#include <cstring>

#include "core/error.h"
#include "dist/hash.h"
#include "tests/support/compare.h"
#include "tests/support/mpi_world.h"
#include "tests/support/random.h"

namespace hew {
namespace {

bool same_on_all_ranks(dist::Communicator& comm, const Tensor& t) {
  const std::uint64_t mine = dist::hash_of(t);
  const std::vector<std::byte> all = comm.all_gather(std::as_bytes(std::span(&mine, 1)));
  for (std::size_t at = 0; at < all.size(); at += sizeof(mine)) {
    if (std::memcmp(all.data() + at, &mine, sizeof(mine)) != 0)
      return false;
  }
  return true;
}

}  // namespace

TEST_CASE_TEMPLATE("all_reduce_sum adds over ranks", T, float, double, std::int64_t) {
  dist::Communicator& comm = test::world();
  const Stream cpu = make_cpu_stream();
  const int ranks = comm.size();
  for (const std::int64_t n : {0, 1, 7, 10007}) {
    std::vector<T> values(static_cast<std::size_t>(n));
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = static_cast<T>(static_cast<int>(i) * (comm.rank() + 1));
    }
    Tensor t = Tensor::from(values, {n}, cpu);
    comm.all_reduce_sum(t);
    for (std::size_t i = 0; i < values.size(); ++i) {
      REQUIRE(t.template data<T>()[i] ==
              static_cast<T>(static_cast<int>(i) * (ranks * (ranks + 1) / 2)));
    }
  }
}

TEST_CASE("rounded sums have the same bits on all ranks, every time") {
  dist::Communicator& comm = test::world();
  const Stream cpu = make_cpu_stream();
  for (const std::int64_t n : {1, 1009, 300007}) {
    const Tensor mine = test::random_tensor({n}, DType::kFloat32, cpu,
                                            10 + static_cast<std::uint64_t>(comm.rank()));
    Tensor first = mine.clone();
    comm.all_reduce_sum(first);
    CHECK(same_on_all_ranks(comm, first));
    Tensor second = mine.clone();
    comm.all_reduce_sum(second);
    CHECK(test::same_bytes(first, second));
  }
}

TEST_CASE("broadcast takes the root's values, whichever rank that is") {
  dist::Communicator& comm = test::world();
  const Stream cpu = make_cpu_stream();
  for (int root = 0; root < comm.size(); ++root) {
    Tensor t = test::random_tensor({3, 1009}, DType::kFloat64, cpu,
                                   static_cast<std::uint64_t>(comm.rank()));
    comm.broadcast(t, root);
    CHECK(test::same_bytes(
        t, test::random_tensor({3, 1009}, DType::kFloat64, cpu, static_cast<std::uint64_t>(root))));
  }
}

TEST_CASE("all_gather keeps the order of ranks") {
  dist::Communicator& comm = test::world();
  const std::array<std::byte, 3> mine{std::byte{7}, static_cast<std::byte>(comm.rank()),
                                      std::byte{9}};
  const std::vector<std::byte> all = comm.all_gather(mine);
  REQUIRE(all.size() == 3 * static_cast<std::size_t>(comm.size()));
  for (int rank = 0; rank < comm.size(); ++rank) {
    CHECK(all[3 * static_cast<std::size_t>(rank) + 1] == static_cast<std::byte>(rank));
  }
  CHECK(comm.all_gather({}).empty());
  comm.barrier();
}

TEST_CASE("what cannot be done is an error, not an abort") {
  dist::Communicator& comm = test::world();
  const Stream cpu = make_cpu_stream();
  Tensor t = Tensor::zeros({3}, DType::kInt32, cpu);
  CHECK_THROWS_AS(comm.all_reduce_sum(t), DtypeError);
  CHECK_THROWS_AS(comm.broadcast(t, comm.size()), BackendError);
  comm.barrier();
}

TEST_CASE("a local communicator is one rank that leaves everything as it is") {
  dist::LocalCommunicator comm;
  CHECK(comm.rank() == 0);
  CHECK(comm.size() == 1);
  const Stream cpu = make_cpu_stream();
  Tensor t = test::random_tensor({5}, DType::kFloat32, cpu, 1);
  const Tensor before = t.clone();
  comm.all_reduce_sum(t);
  comm.broadcast(t, 0);
  comm.barrier();
  CHECK(test::same_bytes(t, before));
  const std::array<std::byte, 2> mine{std::byte{1}, std::byte{2}};
  CHECK(comm.all_gather(mine) == std::vector<std::byte>(mine.begin(), mine.end()));
  CHECK_THROWS_AS(comm.broadcast(t, 1), Error);
  CHECK_THROWS_AS(comm.all_reduce_sum(Tensor::zeros({1}, DType::kUInt8, cpu).view()), DtypeError);
}

// Its own CTest entry: it must end the job, while the other ranks wait for rank 1.
TEST_CASE("abort frees ranks that wait" * doctest::skip()) {
  dist::Communicator& comm = test::world();
  if (comm.rank() == 1)
    comm.abort(3);
  comm.barrier();
}

}  // namespace hew
