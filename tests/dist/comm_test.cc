#include "dist/comm.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <limits>
#include <thread>

#include "core/error.h"
#include "dist/hash.h"
#include "dist/host_rank.h"
#include "dist/slices.h"
#include "kernels/elementwise.h"
#include "tests/support/compare.h"
#include "tests/support/mpi_world.h"
#include "tests/support/random.h"

namespace hew {
namespace {

bool same_on_all_ranks(dist::Communicator& comm, const Tensor& t) {
  const std::uint64_t mine = dist::hashes_of({&t, 1}).front();
  const std::vector<std::uint64_t> all = dist::gather_of_ranks(comm, mine);
  return std::ranges::count(all, mine) == std::ssize(all);
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
    comm.all_reduce_sum(t, cpu);
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
    comm.all_reduce_sum(first, cpu);
    CHECK(same_on_all_ranks(comm, first));
    Tensor second = mine.clone();
    comm.all_reduce_sum(second, cpu);
    CHECK(test::same_bytes(first, second));
  }
}

TEST_CASE("broadcast takes the root's values, whichever rank that is") {
  dist::Communicator& comm = test::world();
  const Stream cpu = make_cpu_stream();
  for (int root = 0; root < comm.size(); ++root) {
    Tensor t = test::random_tensor({3, 1009}, DType::kFloat64, cpu,
                                   static_cast<std::uint64_t>(comm.rank()));
    comm.broadcast(t, root, cpu);
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

TEST_CASE_TEMPLATE("reduce, means and scattered sums", T, float, double) {
  dist::Communicator& comm = test::world();
  const Stream cpu = make_cpu_stream();
  const int ranks = comm.size();
  const DType dtype = kDTypeOf<T>;
  for (const std::int64_t n : {1, 7, 1009}) {
    std::vector<Tensor> of_rank;
    Tensor sum = Tensor::zeros({ranks * n}, DType::kFloat64, cpu);
    for (int rank = 0; rank < ranks; ++rank) {
      of_rank.push_back(
          test::random_tensor({ranks * n}, dtype, cpu, 40 + static_cast<std::uint64_t>(rank)));
      Tensor wide = Tensor::empty(sum.shape(), sum.dtype(), cpu);
      kernels::cast(of_rank.back(), wide, cpu);
      kernels::add(sum, wide, sum, cpu);
    }
    Tensor mean = sum.clone();
    kernels::scale(1.0 / ranks, mean, cpu);
    const Tensor& mine = of_rank[static_cast<std::size_t>(comm.rank())];
    const double tolerance = 4.0 * ranks * static_cast<double>(std::numeric_limits<T>::epsilon());

    Tensor t = mine.clone();
    comm.all_reduce(t, dist::Reduction::kMean, cpu);
    HEW_CHECK_CLOSE(t, mean, tolerance, tolerance);
    CHECK(same_on_all_ranks(comm, t));

    for (int root = 0; root < ranks; ++root) {
      t = mine.clone();
      comm.reduce(t, root, dist::Reduction::kSum, cpu);
      if (comm.rank() == root) {
        HEW_CHECK_CLOSE(t, sum, tolerance, tolerance);
      } else {
        CHECK(test::same_bytes(t, mine));
      }
    }

    const Tensor own_sum = sum.rows(comm.rank() * n, n);
    Tensor out = Tensor::zeros({n}, dtype, cpu);
    comm.reduce_scatter_sum(mine, out, cpu);
    HEW_CHECK_CLOSE(out, own_sum, tolerance, tolerance);
    t = mine.clone();
    Tensor part = t.rows(comm.rank() * n, n);
    comm.reduce_scatter_sum(t, part, cpu);  // in place
    CHECK(test::same_bytes(part, out));

    Tensor all = Tensor::zeros({ranks * n}, dtype, cpu);
    comm.all_gather(out, all, cpu);
    HEW_CHECK_CLOSE(all, sum, tolerance, tolerance);
    comm.all_gather(part, t, cpu);  // in place
    CHECK(test::same_bytes(t, all));
  }
}

TEST_CASE("slices cover a tensor of any size, and add and gather like the whole") {
  dist::Communicator& comm = test::world();
  const Stream cpu = make_cpu_stream();
  for (const std::int64_t n : {0, 1, 127, 128, 129, 512, 1009, 4096}) {
    std::int64_t covered = 0;
    for (int rank = 0; rank < comm.size(); ++rank) {
      const dist::Slice slice = dist::slice_of({n}, rank, comm.size());
      CHECK(slice.begin == covered);
      CHECK((slice.begin % dist::slice_unit({n}) == 0 || slice.count == 0));
      covered += slice.count;
    }
    CHECK(covered == n);
    Tensor whole = test::random_tensor({n}, DType::kFloat64, cpu,
                                       70 + static_cast<std::uint64_t>(comm.rank()));
    Tensor sliced = whole.clone();
    comm.all_reduce(whole, dist::Reduction::kMean, cpu);
    dist::reduce_slices(comm, sliced, dist::Reduction::kMean, cpu);
    dist::gather_slices(comm, sliced, cpu);
    HEW_CHECK_CLOSE(sliced, whole, 1e-15, 1e-15);
    CHECK(same_on_all_ranks(comm, sliced));
  }
}

TEST_CASE("a roll call is yes if anyone says yes") {
  dist::Communicator& comm = test::world();
  CHECK_FALSE(comm.roll_call(false));
  for (int rank = 0; rank < comm.size(); ++rank) {
    CHECK(comm.roll_call(comm.rank() == rank));
  }
  CHECK_FALSE(comm.roll_call(false));
}

TEST_CASE("what is called within a group is done when it ends") {
  dist::Communicator& comm = test::world();
  const Stream cpu = make_cpu_stream();
  std::vector<Tensor> tensors;
  dist::Group group(comm);
  for (int i = 0; i < 5; ++i) {
    tensors.push_back(Tensor::from(std::vector<double>{1.0 * i}, {1}, cpu));
    comm.all_reduce_sum(tensors.back(), cpu);
  }
  group.end();
  for (int i = 0; i < 5; ++i) {
    CHECK(tensors[static_cast<std::size_t>(i)].data<double>()[0] == i * comm.size());
  }
}

TEST_CASE("ranks of one machine are counted") {
  CHECK(dist::rank_on_host(test::world()) == test::world().rank());
  CHECK(dist::ranks_on_host(test::world()) == test::world().size());
}

TEST_CASE("what cannot be done is an error, not an abort") {
  dist::Communicator& comm = test::world();
  const Stream cpu = make_cpu_stream();
  Tensor t = Tensor::zeros({3}, DType::kInt32, cpu);
  CHECK_THROWS_AS(comm.all_reduce_sum(t, cpu), DtypeError);
  CHECK_THROWS_AS(comm.broadcast(t, comm.size(), cpu), BackendError);
  Tensor small = Tensor::zeros({3}, DType::kBFloat16, cpu);
  CHECK_THROWS_AS(comm.all_reduce_sum(small, cpu), DtypeError);
  Tensor whole = Tensor::zeros({3}, DType::kInt64, cpu);
  CHECK_THROWS_AS(comm.all_reduce(whole, dist::Reduction::kMean, cpu), DtypeError);
  Tensor odd = Tensor::zeros({3 * comm.size() + 1}, DType::kFloat32, cpu);
  Tensor part = Tensor::zeros({3}, DType::kFloat32, cpu);
  CHECK_THROWS_AS(comm.reduce_scatter_sum(odd, part, cpu), ShapeError);
  CHECK_THROWS_AS(comm.all_gather(part, odd, cpu), ShapeError);
  comm.barrier();
}

TEST_CASE("a local communicator is one rank that leaves everything as it is") {
  dist::LocalCommunicator comm;
  CHECK(comm.rank() == 0);
  CHECK(comm.size() == 1);
  const Stream cpu = make_cpu_stream();
  Tensor t = test::random_tensor({5}, DType::kFloat32, cpu, 1);
  const Tensor before = t.clone();
  comm.all_reduce_sum(t, cpu);
  comm.broadcast(t, 0, cpu);
  comm.barrier();
  CHECK(test::same_bytes(t, before));
  const std::array<std::byte, 2> mine{std::byte{1}, std::byte{2}};
  CHECK(comm.all_gather(mine) == std::vector<std::byte>(mine.begin(), mine.end()));
  Tensor copy = Tensor::zeros({5}, DType::kFloat32, cpu);
  comm.reduce_scatter_sum(t, copy, cpu);
  CHECK(test::same_bytes(copy, before));
  copy.fill_zero();
  comm.all_gather(t, copy, cpu);
  CHECK(test::same_bytes(copy, before));
  CHECK(comm.roll_call(true));
  CHECK_FALSE(comm.roll_call(false));
  CHECK_THROWS_AS(comm.broadcast(t, 1, cpu), Error);
  CHECK_THROWS_AS(comm.all_reduce_sum(Tensor::zeros({1}, DType::kUInt8, cpu).view(), cpu),
                  DtypeError);
}

// Each its own CTest entry: one rank hangs, and the others must say so and end the job.
TEST_CASE("a rank that misses the roll call is named" * doctest::skip()) {
  dist::Communicator& comm = test::world();
  comm.set_deadline(std::chrono::milliseconds(1000));
  comm.set_step(16);
  comm.roll_call(false);
  comm.set_step(17);
  const int hung = comm.size() - 1;
  if (comm.rank() == hung)
    std::this_thread::sleep_for(std::chrono::seconds(40));
  try {
    comm.roll_call(false);
  } catch (const Error& error) {
    fmt::print("rank {} says: {}\n", comm.rank(), error.what());
    std::fflush(stdout);
    if (comm.rank() == 0)
      std::this_thread::sleep_for(std::chrono::seconds(2));  // let all speak
    comm.abort(3);
  }
}

TEST_CASE("a rank that misses a collective is named" * doctest::skip()) {
  dist::Communicator& comm = test::world();
  comm.set_deadline(std::chrono::milliseconds(1000));
  comm.set_step(17);
  comm.roll_call(false);
  if (comm.rank() == 0)
    std::this_thread::sleep_for(std::chrono::seconds(40));
  try {
    const Stream cpu = make_cpu_stream();
    Tensor t = Tensor::zeros({3}, DType::kFloat32, cpu);
    comm.all_reduce_sum(t, cpu);
  } catch (const Error& error) {
    fmt::print("rank {} says: {}\n", comm.rank(), error.what());
    std::fflush(stdout);
    std::this_thread::sleep_for(std::chrono::seconds(1));
    comm.abort(3);
  }
}

// Its own CTest entry: it must end the job, while the other ranks wait for rank 1.
TEST_CASE("abort frees ranks that wait" * doctest::skip()) {
  dist::Communicator& comm = test::world();
  if (comm.rank() == 1)
    comm.abort(3);
  comm.barrier();
}

}  // namespace hew
