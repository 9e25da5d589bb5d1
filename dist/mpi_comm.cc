#include "dist/mpi_comm.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <exception>

#include "core/error.h"
#include "core/memory.h"
#include "dist/mpi_roll_call.h"

namespace hew::dist {
namespace {

// MPI counts are int; longer arrays go in pieces of this many elements.
constexpr std::int64_t kPiece = std::int64_t{1} << 28U;

MPI_Datatype type_of(DType dtype) {
  if (dtype == DType::kFloat32)
    return MPI_FLOAT;
  if (dtype == DType::kFloat64)
    return MPI_DOUBLE;
  return MPI_INT64_T;
}

void require_host(const char* op, const ConstView& view) {
  if (!view.device.is_cpu()) {
    throw BackendError(op, 0, fmt::format("MPI needs host memory, got {}", to_string(view.device)));
  }
}

// Calls body(offset, count) for pieces of n elements.
template <class Body>
void in_pieces(std::int64_t n, const Body& body) {
  for (std::int64_t begin = 0; begin < n; begin += kPiece) {
    body(begin, static_cast<int>(std::min(kPiece, n - begin)));
  }
}

// out ← Σ over ranks of in, on root alone; out may be in.
void add_to(int root, int rank, const ConstView& in, const View& out) {
  in_pieces(in.numel(), [&](std::int64_t begin, int count) {
    const void* from = part_of(in, begin, count).data;
    void* to = rank == root ? part_of(out, begin, count).data : nullptr;
    if (to == from)
      from = MPI_IN_PLACE;
    check_mpi(MPI_Reduce(from, to, count, type_of(in.dtype), MPI_SUM, root, MPI_COMM_WORLD),
              "MPI_Reduce");
  });
}

void send_from(int root, const View& view) {
  in_pieces(view.numel() * size_of(view.dtype), [&](std::int64_t begin, int count) {
    check_mpi(
        MPI_Bcast(static_cast<char*>(view.data) + begin, count, MPI_BYTE, root, MPI_COMM_WORLD),
        "MPI_Bcast");
  });
}

template <class T>
void scale(std::span<T> values, double factor) {
  for (T& value : values) value *= static_cast<T>(factor);
}

}  // namespace

MpiCommunicator::Place MpiCommunicator::start() {
  int given = 0;
  check_mpi(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &given), "MPI_Init_thread");
  check_mpi(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  if (given < MPI_THREAD_FUNNELED) {
    throw BackendError("MPI_Init_thread", given, "this MPI does not support threads");
  }
  Place place{};
  check_mpi(MPI_Comm_rank(MPI_COMM_WORLD, &place.rank), "MPI_Comm_rank");
  check_mpi(MPI_Comm_size(MPI_COMM_WORLD, &place.size), "MPI_Comm_size");
  return place;
}

MpiCommunicator::MpiCommunicator(Place place)
    : Communicator(place.rank, place.size),
      roll_call_(std::make_unique<MpiRollCall>(place.rank, place.size)),
      exceptions_at_start_(std::uncaught_exceptions()) {}

MpiCommunicator::MpiCommunicator() : MpiCommunicator(start()) {}

MpiCommunicator::~MpiCommunicator() {
  if (std::uncaught_exceptions() > exceptions_at_start_)
    MPI_Abort(MPI_COMM_WORLD, 1);
  MPI_Finalize();
}

void MpiCommunicator::meet(const char* what) {
  roll_call_->meet(what, step(), /*flag=*/false, deadline());
}

// Makes a mean of a sum.
void MpiCommunicator::mean(const View& view, Reduction reduction) const {
  if (reduction == Reduction::kSum || size() == 1)
    return;
  if (view.dtype == DType::kFloat32) {
    scale(std::span(view.as<float>(), static_cast<std::size_t>(view.numel())), 1.0 / size());
  } else {
    scale(std::span(view.as<double>(), static_cast<std::size_t>(view.numel())), 1.0 / size());
  }
}

void MpiCommunicator::all_reduce(const View& view, Reduction reduction, const Stream& /*stream*/) {
  require_host("all_reduce", view);
  require_reducible("all_reduce", view, reduction);
  meet("all_reduce");
  in_pieces(view.numel(), [&view](std::int64_t begin, int count) {
    check_mpi(MPI_Allreduce(MPI_IN_PLACE, part_of(view, begin, count).data, count,
                            type_of(view.dtype), MPI_SUM, MPI_COMM_WORLD),
              "MPI_Allreduce");
  });
  mean(view, reduction);
}

void MpiCommunicator::reduce(const View& view, int root, Reduction reduction,
                             const Stream& /*stream*/) {
  require_host("reduce", view);
  require_reducible("reduce", view, reduction);
  meet("reduce");
  add_to(root, rank(), view, view);
  if (rank() == root)
    mean(view, reduction);
}

void MpiCommunicator::reduce_scatter(const ConstView& in, const View& out, Reduction reduction,
                                     const Stream& /*stream*/) {
  require_host("reduce_scatter", in);
  require_host("reduce_scatter", out);
  require_reducible("reduce_scatter", in, reduction);
  require_parts("reduce_scatter", in, out, size());
  meet("reduce_scatter");
  for (int root = 0; root < size(); ++root) {
    add_to(root, rank(), part_of(in, root * out.numel(), out.numel()), out);
  }
  mean(out, reduction);
}

void MpiCommunicator::broadcast(const View& view, int root, const Stream& /*stream*/) {
  require_host("broadcast", view);
  meet("broadcast");
  send_from(root, view);
}

void MpiCommunicator::all_gather(const ConstView& mine, const View& all, const Stream& stream) {
  require_host("all_gather", mine);
  require_host("all_gather", all);
  require_parts("all_gather", all, mine, size());
  meet("all_gather");
  const std::int64_t n = mine.numel();
  const View place = part_of(all, rank() * n, n);
  if (place.data != mine.data) {
    copy_memory(place.data, place.device, mine.data, mine.device, n * size_of(mine.dtype), stream);
  }
  for (int root = 0; root < size(); ++root) send_from(root, part_of(all, root * n, n));
}

std::vector<std::byte> MpiCommunicator::all_gather(std::span<const std::byte> mine) {
  require<Error>(static_cast<std::int64_t>(mine.size()) <= kPiece,
                 "[all_gather] {} bytes are more than one message takes", mine.size());
  meet("all_gather");
  std::vector<std::byte> all(mine.size() * static_cast<std::size_t>(size()));
  const int count = static_cast<int>(mine.size());
  check_mpi(
      MPI_Allgather(mine.data(), count, MPI_BYTE, all.data(), count, MPI_BYTE, MPI_COMM_WORLD),
      "MPI_Allgather");
  return all;
}

void MpiCommunicator::barrier() {
  meet("barrier");
}

bool MpiCommunicator::roll_call(bool flag) {
  return roll_call_->meet("roll call", step(), flag, deadline());
}

void MpiCommunicator::abort(int code) noexcept {
  MPI_Abort(MPI_COMM_WORLD, code);
  std::_Exit(code);
}

bool launched_by_mpi() {
  // Open MPI; PMIx servers such as srun's; MPICH and others with Hydra.
  constexpr std::array kMarks{"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK"};
  return std::any_of(kMarks.begin(), kMarks.end(),
                     [](const char* mark) { return std::getenv(mark) != nullptr; });
}

std::unique_ptr<Communicator> make_communicator() {
  if (launched_by_mpi())
    return std::make_unique<MpiCommunicator>();
  return std::make_unique<LocalCommunicator>();
}

}  // namespace hew::dist
