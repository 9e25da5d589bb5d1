#include "dist/mpi_comm.h"

#include <mpi.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <source_location>

#include "core/error.h"

namespace hew::dist {
namespace {

// MPI counts are int; longer arrays go in pieces of this many elements.
constexpr std::int64_t kPiece = std::int64_t{1} << 28U;

void check(int code, const char* api,
           std::source_location where = std::source_location::current()) {
  if (code == MPI_SUCCESS)
    return;
  std::array<char, MPI_MAX_ERROR_STRING> text{};
  int length = 0;
  MPI_Error_string(code, text.data(), &length);
  throw BackendError(api, code, {text.data(), static_cast<std::size_t>(length)}, where);
}

MPI_Datatype type_of(DType dtype) {
  if (dtype == DType::kFloat32)
    return MPI_FLOAT;
  if (dtype == DType::kFloat64)
    return MPI_DOUBLE;
  return MPI_INT64_T;
}

void require_host(const char* op, const View& view) {
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

}  // namespace

MpiCommunicator::Place MpiCommunicator::start() {
  int given = 0;
  check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &given), "MPI_Init_thread");
  check(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  if (given < MPI_THREAD_FUNNELED) {
    throw BackendError("MPI_Init_thread", given, "this MPI does not support threads");
  }
  Place place{};
  check(MPI_Comm_rank(MPI_COMM_WORLD, &place.rank), "MPI_Comm_rank");
  check(MPI_Comm_size(MPI_COMM_WORLD, &place.size), "MPI_Comm_size");
  return place;
}

MpiCommunicator::MpiCommunicator(Place place)
    : Communicator(place.rank, place.size), exceptions_at_start_(std::uncaught_exceptions()) {}

MpiCommunicator::MpiCommunicator() : MpiCommunicator(start()) {}

MpiCommunicator::~MpiCommunicator() {
  if (std::uncaught_exceptions() > exceptions_at_start_)
    MPI_Abort(MPI_COMM_WORLD, 1);
  MPI_Finalize();
}

void MpiCommunicator::all_reduce_sum(const View& view) {
  require_summable(view.dtype);
  require_host("all_reduce_sum", view);
  in_pieces(view.numel(), [&view](std::int64_t begin, int count) {
    check(MPI_Allreduce(MPI_IN_PLACE, static_cast<char*>(view.data) + begin * size_of(view.dtype),
                        count, type_of(view.dtype), MPI_SUM, MPI_COMM_WORLD),
          "MPI_Allreduce");
  });
}

void MpiCommunicator::broadcast(const View& view, int root) {
  require_host("broadcast", view);
  in_pieces(view.numel() * size_of(view.dtype), [&](std::int64_t begin, int count) {
    check(MPI_Bcast(static_cast<char*>(view.data) + begin, count, MPI_BYTE, root, MPI_COMM_WORLD),
          "MPI_Bcast");
  });
}

std::vector<std::byte> MpiCommunicator::all_gather(std::span<const std::byte> mine) {
  require<Error>(static_cast<std::int64_t>(mine.size()) <= kPiece,
                 "[all_gather] {} bytes are more than one message takes", mine.size());
  std::vector<std::byte> all(mine.size() * static_cast<std::size_t>(size()));
  const int count = static_cast<int>(mine.size());
  check(MPI_Allgather(mine.data(), count, MPI_BYTE, all.data(), count, MPI_BYTE, MPI_COMM_WORLD),
        "MPI_Allgather");
  return all;
}

void MpiCommunicator::barrier() {
  check(MPI_Barrier(MPI_COMM_WORLD), "MPI_Barrier");
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
