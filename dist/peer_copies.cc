#include "dist/peer_copies.h"

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include "core/cuda_driver.h"
#include "core/memory.h"
#include "dist/host_rank.h"
#include "dist/slices.h"
#include "kernels/elementwise.h"

namespace hew::dist {
namespace {

constexpr std::int64_t kArrivals = 4096;                         // bytes before the slots
constexpr std::int64_t kWindowBytes = std::int64_t{128} << 20U;  // of all slots
constexpr std::int64_t kSlotAlignment = 512;

// What a rank tells the others of its window.
struct Introduction {
  cudaIpcMemHandle_t handle;
  bool usable;
};

bool succeeded(cudaError_t code) {
  if (code != cudaSuccess)
    cudaGetLastError();  // forgotten
  return code == cudaSuccess;
}

CUstreamBatchMemOpParams write_of(const std::uint32_t* at, std::uint32_t value) {
  CUstreamBatchMemOpParams out{};
  out.writeValue.operation = CU_STREAM_MEM_OP_WRITE_VALUE_32;
  out.writeValue.address = reinterpret_cast<CUdeviceptr>(at);
  out.writeValue.value = value;
  out.writeValue.flags = CU_STREAM_WRITE_VALUE_DEFAULT;
  return out;
}

CUstreamBatchMemOpParams wait_for(const std::uint32_t* at, std::uint32_t value) {
  CUstreamBatchMemOpParams out{};
  out.waitValue.operation = CU_STREAM_MEM_OP_WAIT_VALUE_32;
  out.waitValue.address = reinterpret_cast<CUdeviceptr>(at);
  out.waitValue.value = value;
  out.waitValue.flags = CU_STREAM_WAIT_VALUE_GEQ;  // modulo 2³²
  return out;
}

void queue(std::vector<CUstreamBatchMemOpParams>& operations, cudaStream_t stream) {
  cuda::check_driver(
      cuda::driver_function<decltype(cuStreamBatchMemOp)>("cuStreamBatchMemOp")(
          stream, static_cast<unsigned int>(operations.size()), operations.data(), 0),
      "cuStreamBatchMemOp");
}

void copy(void* to, const void* from, std::int64_t bytes, const Stream& stream) {
  if (to != from)
    copy_memory(to, stream.device, from, stream.device, bytes, stream);
}

}  // namespace

struct PeerCopies::Parts {
  std::int64_t numel;
  std::int64_t length;

  // Elements [at, at + most) of rank's part, as far as it has them.
  Slice chunk(int rank, std::int64_t at, std::int64_t most) const {
    const std::int64_t end = std::min(numel, (rank + 1) * length);
    const std::int64_t begin = std::min(end, rank * length + at);
    return {.begin = begin, .count = std::min(most, end - begin)};
  }
};

std::unique_ptr<PeerCopies> PeerCopies::make(Communicator& host, const Stream& stream) {
  if (ranks_on_host(host) != host.size() || host.size() > kernels::kMaxTerms)
    return nullptr;
  const cuda::CurrentDevice current(stream.device.index);
  std::unique_ptr<PeerCopies> out(new PeerCopies(host.rank(), host.size(), stream));
  Introduction mine{};
  mine.usable = out->allocate(mine.handle);
  const std::vector<Introduction> ranks = gather_of_ranks(host, mine);
  std::vector<cudaIpcMemHandle_t> handles(ranks.size());
  std::ranges::transform(ranks, handles.begin(), &Introduction::handle);
  const bool usable = std::ranges::all_of(ranks, &Introduction::usable) && out->open(handles);
  const auto opened = gather_of_ranks(host, static_cast<std::uint8_t>(usable));
  if (std::ranges::find(opened, std::uint8_t{0}) != opened.end())
    out.reset();
  return out;
}

PeerCopies::PeerCopies(int rank, int size, const Stream& stream)
    : rank_(rank),
      size_(size),
      device_(stream.device.index),
      slot_bytes_(kWindowBytes / 2 / size / kSlotAlignment * kSlotAlignment),
      windows_(static_cast<std::size_t>(size)) {
  cudaStream_t release = nullptr;
  cuda::check(cudaStreamCreateWithFlags(&release, cudaStreamNonBlocking),
              "cudaStreamCreateWithFlags");
  release_ = cuda::StreamHandle(release);
}

bool PeerCopies::allocate(cudaIpcMemHandle_t& handle) {
  void* window = nullptr;
  if (!succeeded(cudaMalloc(&window, static_cast<std::size_t>(kArrivals + kWindowBytes))))
    return false;
  windows_[static_cast<std::size_t>(rank_)] = static_cast<std::byte*>(window);
  return succeeded(cudaMemset(window, 0, kArrivals)) && succeeded(cudaDeviceSynchronize()) &&
         succeeded(cudaIpcGetMemHandle(&handle, window));
}

bool PeerCopies::open(std::span<const cudaIpcMemHandle_t> handles) {
  for (std::size_t p = 0; p < handles.size(); ++p) {
    if (static_cast<int>(p) == rank_)
      continue;
    void* window = nullptr;
    if (!succeeded(cudaIpcOpenMemHandle(&window, handles[p], cudaIpcMemLazyEnablePeerAccess)))
      return false;
    windows_[p] = static_cast<std::byte*>(window);
  }
  return true;
}

void PeerCopies::close() noexcept {
  try {
    const cuda::CurrentDevice current(device_);
    cudaDeviceSynchronize();
    for (std::size_t p = 0; p < windows_.size(); ++p) {
      if (windows_[p] != nullptr && static_cast<int>(p) != rank_)
        cudaIpcCloseMemHandle(std::exchange(windows_[p], nullptr));
    }
  } catch (const Error&) {  // NOLINT(bugprone-empty-catch): the device is lost
  }
}

PeerCopies::~PeerCopies() {
  if (failed_)
    return;
  close();
  cudaFree(windows_[static_cast<std::size_t>(rank_)]);
}

std::byte* PeerCopies::slot(int owner, int from) const {
  const std::int64_t number = std::int64_t{sequence_ % 2} * size_ + from;
  return windows_[static_cast<std::size_t>(owner)] + kArrivals + number * slot_bytes_;
}

std::uint32_t* PeerCopies::arrival(int owner, int from) const {
  return reinterpret_cast<std::uint32_t*>(windows_[static_cast<std::size_t>(owner)]) + from;
}

void PeerCopies::begin(const Stream& stream) {
  last_.hold(stream);
}

void PeerCopies::end(const Stream& stream) {
  last_.record(stream);
}

// pieces[p] → this rank's slot of p, and until the next but one exchange slot(rank_, q) has what q
// sent.
void PeerCopies::exchange(std::span<const Piece> pieces, const Stream& stream) {
  ++sequence_;
  std::vector<CUstreamBatchMemOpParams> operations;
  for (int i = 1; i < size_; ++i) {
    const int peer = (rank_ + i) % size_;  // each rank begins with another one
    const Piece& piece = pieces[static_cast<std::size_t>(peer)];
    copy(slot(peer, rank_), piece.data, piece.bytes, stream);
    operations.push_back(write_of(arrival(peer, rank_), sequence_));
  }
  for (int peer = 0; peer < size_; ++peer) {
    if (peer != rank_)
      operations.push_back(wait_for(arrival(rank_, peer), sequence_));
  }
  queue(operations, cuda::native(stream));
  last_.record(stream);
}

// out ← this rank's part of the sum or mean.
void PeerCopies::scatter(const ConstView& in, const Parts& parts, const View& out,
                         Reduction reduction, const Stream& stream) {
  const std::int64_t most = slot_bytes_ / size_of(in.dtype);
  std::vector<Piece> pieces(static_cast<std::size_t>(size_));
  for (std::int64_t at = 0; at < parts.length; at += most) {
    for (int p = 0; p < size_; ++p) {
      const Slice chunk = parts.chunk(p, at, most);
      const ConstView piece = part_of(in, chunk.begin, chunk.count);
      pieces[static_cast<std::size_t>(p)] = {.data = piece.data,
                                             .bytes = chunk.count * size_of(in.dtype)};
    }
    exchange(pieces, stream);
    const Slice own = parts.chunk(rank_, at, most);
    if (own.count == 0)
      continue;
    std::vector<ConstView> terms(static_cast<std::size_t>(size_),
                                 part_of(in, own.begin, own.count));
    for (int q = 0; q < size_; ++q) {
      if (q != rank_)
        terms[static_cast<std::size_t>(q)].data = slot(rank_, q);
    }
    kernels::scaled_sum(terms, reduction == Reduction::kMean ? 1.0 / size_ : 1.0,
                        part_of(out, own.begin - rank_ * parts.length, own.count), stream);
  }
}

// all ← what each rank has of its part.
void PeerCopies::gather(const ConstView& mine, const Parts& parts, const View& all,
                        const Stream& stream) {
  const std::int64_t element = size_of(all.dtype);
  const std::int64_t most = slot_bytes_ / element;
  for (std::int64_t at = 0; at < parts.length; at += most) {
    const Slice own = parts.chunk(rank_, at, most);
    const ConstView piece = part_of(mine, own.begin - rank_ * parts.length, own.count);
    const std::vector<Piece> pieces(static_cast<std::size_t>(size_),
                                    {.data = piece.data, .bytes = own.count * element});
    exchange(pieces, stream);
    for (int q = 0; q < size_; ++q) {
      const Slice chunk = parts.chunk(q, at, most);
      copy(part_of(all, chunk.begin, chunk.count).data, q == rank_ ? piece.data : slot(rank_, q),
           chunk.count * element, stream);
    }
  }
}

void PeerCopies::all_reduce(const View& view, Reduction reduction, const Stream& stream) {
  constexpr std::int64_t kUnit = 128;  // elements, so that parts begin where wide accesses may
  const std::int64_t n = view.numel();
  const Parts parts{.numel = n, .length = (n + size_ * kUnit - 1) / (size_ * kUnit) * kUnit};
  const Slice own = parts.chunk(rank_, 0, parts.length);
  const View mine = part_of(view, own.begin, own.count);
  begin(stream);
  scatter(view, parts, mine, reduction, stream);
  gather(mine, parts, view, stream);
  end(stream);
}

void PeerCopies::reduce_scatter(const ConstView& in, const View& out, Reduction reduction,
                                const Stream& stream) {
  begin(stream);
  scatter(in, {.numel = in.numel(), .length = out.numel()}, out, reduction, stream);
  end(stream);
}

void PeerCopies::release() noexcept {
  try {
    std::vector<CUstreamBatchMemOpParams> writes;
    writes.reserve(windows_.size());
    for (int q = 0; q < size_; ++q) writes.push_back(write_of(arrival(rank_, q), sequence_));
    queue(writes, release_.get());
  } catch (const Error&) {  // NOLINT(bugprone-empty-catch): the device is lost, and nothing waits
  }
}

void PeerCopies::come_to_rest() noexcept {
  constexpr std::chrono::seconds kPatience{10};
  constexpr std::chrono::milliseconds kNap{1};
  const auto start = std::chrono::steady_clock::now();
  failed_ = true;
  try {
    // Again and again, since a rank that is behind may write an older number over it.
    while (!last_.reached() && std::chrono::steady_clock::now() - start < kPatience) {
      release();
      std::this_thread::sleep_for(kNap);
    }
  } catch (const Error&) {  // NOLINT(bugprone-empty-catch): the device is lost, and nothing waits
  }
}

}  // namespace hew::dist
