#include "dist/nccl_comm.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdio>
#include <thread>

#include "core/error.h"
#include "dist/host_rank.h"
#include "dist/peer_copies.h"
#include "dist/reducer.h"
#include "dist/slices.h"
#include "tests/support/compare.h"
#include "tests/support/device.h"
#include "tests/support/mpi_world.h"
#include "tests/support/random.h"
#include "train/rank_optimizer.h"

namespace hew {
namespace {

const Stream& gpu() {
  static const Stream stream =
      make_stream({.type = DeviceType::kCuda, .index = dist::rank_on_host(test::world())});
  return stream;
}

Tensor values_of(int rank, const Shape& shape, DType dtype, std::uint64_t seed) {
  const Stream cpu = make_cpu_stream();
  return test::random_tensor(shape, dtype, cpu, 100 * seed + static_cast<std::uint64_t>(rank));
}

// What `collective(communicator, tensor, stream)` makes of this rank's values, over MPI on the host
// and over NCCL.
void check_like_host(dist::Communicator& nccl, const Shape& shape, DType dtype, double tolerance,
                     const auto& collective) {
  dist::Communicator& host = test::world();
  Tensor expected = values_of(host.rank(), shape, dtype, 7);
  Tensor got = test::to(expected, gpu());
  collective(host, expected, make_cpu_stream());
  collective(nccl, got, gpu());
  synchronize(gpu());
  HEW_CHECK_CLOSE(test::on_cpu(got), expected, tolerance, tolerance);
}

}  // namespace

TEST_CASE("collectives on GPUs do what they do on the host") {
  const auto nccl = dist::make_nccl_communicator(test::world(), gpu());
  const int ranks = nccl->size();
  for (const DType dtype : {DType::kFloat32, DType::kFloat64}) {
    const double tolerance = dtype == DType::kFloat32 ? 1e-6 : 1e-15;
    for (const std::int64_t n : {1, 127, 1009, 300007}) {
      for (const dist::Reduction reduction : {dist::Reduction::kSum, dist::Reduction::kMean}) {
        check_like_host(*nccl, {n}, dtype, tolerance,
                        [&](dist::Communicator& comm, Tensor& t, const Stream& stream) {
                          comm.all_reduce(t, reduction, stream);
                        });
        check_like_host(*nccl, {n}, dtype, tolerance,
                        [&](dist::Communicator& comm, Tensor& t, const Stream& stream) {
                          comm.all_reduce_beside(t, reduction, stream);
                        });
        check_like_host(*nccl, {ranks * n}, dtype, tolerance,
                        [&](dist::Communicator& comm, Tensor& t, const Stream& stream) {
                          Tensor part = t.rows(comm.rank() * n, n);
                          comm.reduce_scatter(t, part, reduction, stream);
                          comm.all_gather(part, t, stream);
                        });
        check_like_host(*nccl, {n}, dtype, tolerance,
                        [&](dist::Communicator& comm, Tensor& t, const Stream& stream) {
                          dist::Group group(comm);
                          dist::reduce_slices(comm, t, reduction, stream);
                          group.end();
                          dist::gather_slices(comm, t, stream);
                        });
      }
      for (int root = 0; root < ranks; ++root) {
        check_like_host(*nccl, {n}, dtype, 0,
                        [&](dist::Communicator& comm, Tensor& t, const Stream& stream) {
                          comm.broadcast(t, root, stream);
                        });
      }
    }
  }
  CHECK(nccl->roll_call(nccl->rank() == 1));
  CHECK_FALSE(nccl->roll_call(false));
}

TEST_CASE("bfloat16 adds on GPUs; what cannot be done is an error") {
  const auto nccl = dist::make_nccl_communicator(test::world(), gpu());
  Tensor ones = test::to(
      test::rounded(Tensor::from(std::vector<float>(1009, 1.0F), {1009}, make_cpu_stream()),
                    DType::kBFloat16),
      gpu());
  nccl->all_reduce_sum(ones, gpu());
  const Tensor sums = test::rounded(test::on_cpu(ones), DType::kFloat32);
  for (const float sum : sums.to_vector<float>()) REQUIRE(sum == static_cast<float>(nccl->size()));
  Tensor whole = Tensor::zeros({4}, DType::kInt32, gpu());
  CHECK_THROWS_AS(nccl->all_reduce_sum(whole, gpu()), DtypeError);
  CHECK_THROWS_AS(nccl->broadcast(ones, nccl->size(), gpu()), BackendError);
  test::world().barrier();
  nccl->give_up();
  nccl->give_up();
  CHECK_THROWS_AS(nccl->all_reduce_sum(ones, gpu()), Error);
  test::world().barrier();
}

TEST_CASE("buckets reduced beside the stream hold the means when finish() returns") {
  dist::Communicator& host = test::world();
  const auto nccl = dist::make_nccl_communicator(host, gpu());
  const std::vector<Shape> shapes{{1}, {17, 3}, {5, 16, 16}, {10007}, {512, 1024}, {300}};
  for (const dist::Share share : {dist::Share::kWhole, dist::Share::kSlices}) {
    for (const std::int64_t bucket : {1, 5000, 25 << 20}) {
      dist::GradientReducer reducer(*nccl, {.bucket_bytes = bucket, .small_bytes = 0});
      for (int round = 0; round < 3; ++round) {
        std::vector<ag::Parameter> parameters;
        std::vector<ag::Parameter*> pointers;
        for (std::size_t i = 0; i < shapes.size(); ++i) {
          parameters.push_back(
              {.name = fmt::format("p{}", i),
               .var = ag::Variable(Tensor::zeros(shapes[i], DType::kFloat32, gpu()),
                                   /*requires_grad=*/true)});
        }
        for (ag::Parameter& p : parameters) pointers.push_back(&p);
        reducer.begin(pointers, share);
        for (std::size_t i = shapes.size(); i-- > 0;) {
          parameters[i].var.grad() =
              test::to(values_of(host.rank(), shapes[i], DType::kFloat32, i + 1), gpu());
          reducer.ready(parameters[i].var.key());
        }
        reducer.finish();
        for (std::size_t i = 0; i < shapes.size(); ++i) {
          Tensor expected = values_of(host.rank(), shapes[i], DType::kFloat32, i + 1);
          host.all_reduce(expected, dist::Reduction::kMean, make_cpu_stream());
          Tensor& grad = parameters[i].var.grad();
          if (share == dist::Share::kSlices)
            dist::gather_slices(*nccl, grad, gpu());
          HEW_CHECK_CLOSE(test::on_cpu(grad), expected, 1e-6, 1e-6);
        }
      }
    }
  }
}

TEST_CASE("a sharded optimizer on GPUs updates like a whole one") {
  dist::Communicator& host = test::world();
  const auto nccl = dist::make_nccl_communicator(host, gpu());
  const optim::OptimConfig plain{.lr = 1e-2, .schedule = {}};
  optim::OptimConfig shared = plain;
  shared.shard = true;
  const std::vector<Shape> shapes{{3}, {33, 31}, {1024, 4}, {11, 8, 8}};
  std::vector<ag::Parameter> a;
  std::vector<ag::Parameter> b;
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    const Tensor value = values_of(0, shapes[i], DType::kFloat64, i);
    for (auto* list : {&a, &b}) {
      list->push_back({.name = fmt::format("p{}", i),
                       .var = ag::Variable(test::to(value, gpu()), /*requires_grad=*/true)});
    }
  }
  std::vector<ag::Parameter*> of_a;
  std::vector<ag::Parameter*> of_b;
  for (ag::Parameter& p : a) of_a.push_back(&p);
  for (ag::Parameter& p : b) of_b.push_back(&p);
  train::RankOptimizer whole(plain, of_a, *nccl);
  train::RankOptimizer sharded(shared, of_b, *nccl);
  for (std::uint64_t step = 0; step < 3; ++step) {
    for (std::size_t i = 0; i < shapes.size(); ++i) {
      const Tensor grad = values_of(0, shapes[i], DType::kFloat64, 10 * step + i);
      a[i].var.grad() = test::to(grad, gpu());
      b[i].var.grad() = test::to(grad, gpu());
    }
    const train::SlicedNorm norm = whole.gradient_norm(1);
    const train::SlicedNorm norm_of_slices = sharded.gradient_norm(1);
    CHECK(std::abs(norm_of_slices.norm() / norm.norm() - 1) < 1e-12);
    whole.step(1e-2, norm.scale());
    sharded.step(1e-2, norm_of_slices.scale());
  }
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    HEW_CHECK_CLOSE(test::on_cpu(b[i].value()), test::on_cpu(a[i].value()), 1e-12, 1e-12);
  }
  const optim::NamedTensors state = sharded.state();
  CHECK(state.empty() == (host.rank() != 0));
}

TEST_CASE("copy engines bring what was sent, round after round") {
  dist::Communicator& host = test::world();
  {
    const auto peers = dist::PeerCopies::make(host, gpu());
    REQUIRE_MESSAGE(peers, "these GPUs do not reach each other's memory: NCCL would be tested");
    peers->close();
    host.barrier();
  }
  const auto comm = dist::make_nccl_communicator(host, gpu());
  const auto nccl = dist::make_nccl_communicator(host, gpu(), dist::PeerCopying::kNever);
  const int ranks = host.size();
  // Whole numbers, so that every order of sums gives the same bits.
  auto value = [](std::int64_t i, int rank, int round) {
    return static_cast<float>((i * 2654435761 + 97 * rank + 13 * round) % 17 - 8);
  };
  auto of_rank = [&](std::int64_t n, int rank, int round) {
    std::vector<float> values(static_cast<std::size_t>(n));
    for (std::int64_t i = 0; i < n; ++i)
      values[static_cast<std::size_t>(i)] = value(i, rank, round);
    return values;
  };
  constexpr int kRounds = 24;
  std::vector<Tensor> by_copies;
  std::vector<Tensor> by_nccl;
  for (int round = 0; round < kRounds; ++round) {
    const std::int64_t n = ranks * (262144 + 128 * ((round * 37) % 50));
    const Tensor mine =
        test::to(Tensor::from(of_rank(n, host.rank(), round), {n}, make_cpu_stream()), gpu());
    by_copies.push_back(mine.clone());
    by_nccl.push_back(mine);
  }
  synchronize(gpu());
  const Stream side = side_stream(gpu());
  auto all = [&](dist::Communicator& by, Tensor& t, int round) {
    const Stream& stream = round % 5 == 4 ? side : gpu();
    const std::int64_t part = t.numel() / ranks;
    Tensor own = t.rows(by.rank() * part, part);
    if (round % 3 == 0)
      return by.all_reduce_beside(t, dist::Reduction::kSum, stream);
    by.reduce_scatter_beside(t, own, dist::Reduction::kSum, stream);
    if (round % 3 == 1)
      by.all_gather(own, t, stream);
  };
  for (int round = 0; round < kRounds; ++round) {
    if (round % 7 == 3 * host.rank())  // now this rank is late, now that one
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    all(*comm, by_copies[static_cast<std::size_t>(round)], round);
  }
  synchronize(side);
  synchronize(gpu());
  for (int round = 0; round < kRounds; ++round)
    all(*nccl, by_nccl[static_cast<std::size_t>(round)], round);
  synchronize(side);
  synchronize(gpu());
  for (int round = 0; round < kRounds; ++round) {
    const Tensor got = test::on_cpu(by_copies[static_cast<std::size_t>(round)]);
    const Tensor expected = test::on_cpu(by_nccl[static_cast<std::size_t>(round)]);
    const std::int64_t part = got.numel() / ranks;
    const bool parts_only = round % 3 == 2;  // the others are undefined
    const std::int64_t begin = parts_only ? host.rank() * part : 0;
    const std::int64_t count = parts_only ? part : got.numel();
    REQUIRE(test::same_bytes(got.rows(begin, count), expected.rows(begin, count)));
    double sum = 0;
    for (int rank = 0; rank < ranks; ++rank) sum += value(begin, rank, round);
    REQUIRE(got.rows(begin, 1).to_vector<float>().front() == sum);
  }
}

TEST_CASE("what is larger than a window goes through it in pieces") {
  dist::Communicator& host = test::world();
  const auto comm = dist::make_nccl_communicator(host, gpu());
  const std::int64_t n = (std::int64_t{150} << 20U) / 4 + 77;
  check_like_host(*comm, {n}, DType::kFloat32, 1e-6,
                  [](dist::Communicator& by, Tensor& t, const Stream& stream) {
                    by.all_reduce_beside(t, dist::Reduction::kMean, stream);
                  });
  check_like_host(*comm, {2 * host.size(), n / 4}, DType::kFloat32, 1e-6,
                  [](dist::Communicator& by, Tensor& t, const Stream& stream) {
                    Tensor own = t.rows(2 * by.rank(), 2);
                    by.reduce_scatter_beside(t, own, dist::Reduction::kMean, stream);
                    by.all_gather(own, t, stream);
                  });
}

namespace {

// Rank 1 never makes its part.
void wait_for_absent_rank(const auto& collective) {
  dist::Communicator& host = test::world();
  const auto nccl = dist::make_nccl_communicator(host, gpu());
  Tensor t = Tensor::zeros({1009}, DType::kFloat32, gpu());
  collective(*nccl, t);
  synchronize(gpu());
  nccl->set_step(17);
  nccl->roll_call(false);
  nccl->set_deadline(std::chrono::milliseconds(2000));
  if (host.rank() == 1)
    std::this_thread::sleep_for(std::chrono::seconds(50));
  try {
    collective(*nccl, t);
    synchronize(gpu());
  } catch (const Error& error) {
    // Its stream comes to rest, or CTest's deadline tells: no waiter is asked any more.
    gpu().state->waiter = nullptr;
    synchronize(gpu());
    fmt::print("rank {} says: {}\n", host.rank(), error.what());
    std::fflush(stdout);
    host.abort(3);
  }
}

}  // namespace

// Two CTest entries of their own.
TEST_CASE("a collective that some rank leaves out ends with its name" * doctest::skip()) {
  wait_for_absent_rank([](dist::Communicator& by, Tensor& t) { by.all_reduce_sum(t, gpu()); });
}

TEST_CASE("one by copy engines that some rank leaves out ends with its name" * doctest::skip()) {
  wait_for_absent_rank([](dist::Communicator& by, Tensor& t) {
    by.all_reduce_beside(t, dist::Reduction::kSum, gpu());
  });
}

}  // namespace hew
