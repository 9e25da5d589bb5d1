#include "dist/nccl_comm.h"

#include <nccl.h>

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <string>
#include <thread>
#include <utility>

#include "core/cuda_check.h"
#include "core/cuda_device.h"
#include "core/error.h"
#include "dist/peer_copies.h"

namespace hew::dist {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

// How long an orderly end, or a search for who is missing, may take.
constexpr milliseconds kGrace = std::chrono::seconds(10);

ncclDataType_t type_of(DType dtype) {
  if (dtype == DType::kFloat32)
    return ncclFloat32;
  if (dtype == DType::kFloat64)
    return ncclFloat64;
  if (dtype == DType::kBFloat16)
    return ncclBfloat16;
  return ncclInt64;
}

ncclRedOp_t operation_of(Reduction reduction) {
  return reduction == Reduction::kSum ? ncclSum : ncclAvg;
}

std::size_t count_of(const ConstView& view) {
  return static_cast<std::size_t>(view.numel());
}

std::size_t bytes_of(const ConstView& view) {
  return static_cast<std::size_t>(view.numel() * size_of(view.dtype));
}

// Between two looks at something that takes microseconds, or a step.
void pause(Clock::time_point since) {
  constexpr milliseconds kEager{2};
  constexpr std::chrono::microseconds kNap{20};
  if (Clock::now() - since < kEager) {
    std::this_thread::yield();
  } else {
    std::this_thread::sleep_for(kNap);
  }
}

class NcclCommunicator final : public Communicator {
 public:
  NcclCommunicator(Communicator& host, const Stream& stream, PeerCopying copying);
  NcclCommunicator(const NcclCommunicator&) = delete;
  NcclCommunicator& operator=(const NcclCommunicator&) = delete;
  ~NcclCommunicator() override;

  void all_reduce(const View& view, Reduction reduction, const Stream& stream) override;
  void reduce(const View& view, int root, Reduction reduction, const Stream& stream) override;
  void reduce_scatter(const ConstView& in, const View& out, Reduction reduction,
                      const Stream& stream) override;
  void all_reduce_beside(const View& view, Reduction reduction, const Stream& stream) override;
  void reduce_scatter_beside(const ConstView& in, const View& out, Reduction reduction,
                             const Stream& stream) override;
  void broadcast(const View& view, int root, const Stream& stream) override;
  void all_gather(const ConstView& mine, const View& all, const Stream& stream) override;
  std::vector<std::byte> all_gather(std::span<const std::byte> mine) override;
  void barrier() override;
  bool roll_call(bool flag) override;
  void set_step(std::int64_t step) override {
    Communicator::set_step(step);
    host_.set_step(step);
  }
  void set_deadline(milliseconds deadline) override;
  void give_up() noexcept override;
  [[noreturn]] void abort(int code) noexcept override {
    host_.abort(code);
    std::_Exit(code);  // GCC 13 does not see that the call never returns
  }

 private:
  void group_begin() override;
  void group_end(bool given_up) override;

  void close_windows() noexcept;
  void wait(const cuda::Mark& mark);
  void require_usable(const char* api, const ConstView& view) const;
  void require_root(const char* api, int root) const;
  void finish(ncclResult_t code, const char* api);
  ncclResult_t state() const;
  [[noreturn]] void fail(ncclResult_t code, const char* api);
  [[noreturn]] void time_out(const char* what);
  std::string place() const;
  template <class Body>
  auto on_host(const Body& body);

  Communicator& host_;
  Stream stream_;
  ncclComm_t comm_ = nullptr;          // null once given up
  std::unique_ptr<PeerCopies> peers_;  // null: NCCL does it all
  bool grouped_ = false;
  int exceptions_at_start_;
};

template <class Body>
auto NcclCommunicator::on_host(const Body& body) {
  try {
    return body();
  } catch (...) {
    give_up();  // else streams would wait for ranks that do not come
    throw;
  }
}

NcclCommunicator::NcclCommunicator(Communicator& host, const Stream& stream, PeerCopying copying)
    : Communicator(host.rank(), host.size()),
      host_(host),
      stream_(stream),
      exceptions_at_start_(std::uncaught_exceptions()) {
  Communicator::set_deadline(host.deadline());
  ncclUniqueId id{};
  if (rank() == 0) {
    const ncclResult_t code = ncclGetUniqueId(&id);
    if (code != ncclSuccess)
      fail(code, "ncclGetUniqueId");
  }
  host.broadcast(View{.data = &id, .shape = {sizeof(id)}, .dtype = DType::kUInt8, .device = {}}, 0,
                 make_cpu_stream());
  const cuda::CurrentDevice current(stream_.device.index);
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  try {
    finish(ncclCommInitRankConfig(&comm_, size(), id, rank(), &config), "ncclCommInitRankConfig");
    if (copying == PeerCopying::kWherePossible)
      peers_ = PeerCopies::make(host, stream_);
  } catch (...) {
    give_up();
    throw;
  }
  stream_.state->waiter = [this](const cuda::Mark& mark) { wait(mark); };
}

NcclCommunicator::~NcclCommunicator() {
  stream_.state->waiter = nullptr;
  if (std::uncaught_exceptions() > exceptions_at_start_)
    give_up();
  if (comm_ == nullptr)
    return;
  close_windows();
  const Clock::time_point start = Clock::now();
  ncclResult_t code = ncclCommFinalize(comm_);
  while (code == ncclInProgress && Clock::now() - start < kGrace) {
    pause(start);
    if (ncclCommGetAsyncError(comm_, &code) != ncclSuccess)
      break;
  }
  if (code == ncclSuccess) {
    ncclCommDestroy(comm_);
  } else {
    give_up();
  }
}

// No rank frees a window that another one still has open.
void NcclCommunicator::close_windows() noexcept {
  if (!peers_)
    return;
  peers_->close();
  try {
    host_.set_deadline(std::min(deadline(), kGrace));
    host_.barrier();
  } catch (const Error&) {  // NOLINT(bugprone-empty-catch): nothing is lost by it
  }
  host_.set_deadline(deadline());
  peers_.reset();
}

void NcclCommunicator::set_deadline(milliseconds deadline) {
  Communicator::set_deadline(deadline);
  host_.set_deadline(deadline);
}

void NcclCommunicator::give_up() noexcept {
  if (comm_ == nullptr)
    return;
  if (peers_)
    peers_->release();
  ncclCommAbort(std::exchange(comm_, nullptr));
  if (peers_)
    peers_->come_to_rest();
}

std::string NcclCommunicator::place() const {
  return step() < 0 ? fmt::format("[start] rank {}", rank())
                    : fmt::format("[train] step {}: rank {}", step(), rank());
}

void NcclCommunicator::fail(ncclResult_t code, const char* api) {
  const char* detail = comm_ == nullptr ? nullptr : ncclGetLastError(comm_);
  const std::string text =
      fmt::format("{}: {}; {}", place(), ncclGetErrorString(code), detail == nullptr ? "" : detail);
  give_up();
  throw BackendError(api, static_cast<int>(code), text);
}

// The ranks that live meet on the host, which throws if it knows who is missing.
void NcclCommunicator::time_out(const char* what) {
  const milliseconds deadline = host_.deadline();
  host_.set_deadline(std::min(deadline, kGrace));
  on_host([this] { return host_.roll_call(/*flag=*/false); });
  host_.set_deadline(deadline);
  give_up();
  throw BackendError(what, 0,
                     fmt::format("{} has waited {} s for the GPUs, though all ranks answer",
                                 place(), static_cast<double>(this->deadline().count()) * 1e-3));
}

ncclResult_t NcclCommunicator::state() const {
  ncclResult_t result = ncclSuccess;
  const ncclResult_t code = ncclCommGetAsyncError(comm_, &result);
  return code == ncclSuccess ? result : code;
}

// Waits until what NCCL was asked for has been queued.
void NcclCommunicator::finish(ncclResult_t code, const char* api) {
  const Clock::time_point start = Clock::now();
  while (code == ncclInProgress && !grouped_) {
    if (Clock::now() - start > deadline())
      time_out(api);
    pause(start);
    code = state();
  }
  if (code != ncclSuccess && code != ncclInProgress)
    fail(code, api);
}

void NcclCommunicator::require_usable(const char* api, const ConstView& view) const {
  require<Error>(comm_ != nullptr, "[{}] {} has given up its connections", api, place());
  if (view.device != stream_.device) {
    throw BackendError(api, 0,
                       fmt::format("data on {}, but this rank has {}", to_string(view.device),
                                   to_string(stream_.device)));
  }
}

void NcclCommunicator::require_root(const char* api, int root) const {
  if (root < 0 || root >= size())
    throw BackendError(api, 0, fmt::format("root {} of {} ranks", root, size()));
}

void NcclCommunicator::group_begin() {
  const ncclResult_t code = ncclGroupStart();
  if (code != ncclSuccess)
    fail(code, "ncclGroupStart");
  grouped_ = true;
}

void NcclCommunicator::group_end(bool given_up) {
  grouped_ = false;
  const ncclResult_t code = ncclGroupEnd();
  if (given_up)
    return give_up();
  finish(code, "ncclGroupEnd");
}

void NcclCommunicator::all_reduce(const View& view, Reduction reduction, const Stream& stream) {
  if (view.device.is_cpu())
    return on_host([&] { host_.all_reduce(view, reduction, stream); });
  require_usable("ncclAllReduce", view);
  require_reducible("all_reduce", view, reduction);
  finish(ncclAllReduce(view.data, view.data, count_of(view), type_of(view.dtype),
                       operation_of(reduction), comm_, cuda::native(stream)),
         "ncclAllReduce");
}

void NcclCommunicator::reduce(const View& view, int root, Reduction reduction,
                              const Stream& stream) {
  if (view.device.is_cpu())
    return on_host([&] { host_.reduce(view, root, reduction, stream); });
  require_usable("ncclReduce", view);
  require_root("reduce", root);
  require_reducible("reduce", view, reduction);
  finish(ncclReduce(view.data, view.data, count_of(view), type_of(view.dtype),
                    operation_of(reduction), root, comm_, cuda::native(stream)),
         "ncclReduce");
}

void NcclCommunicator::reduce_scatter(const ConstView& in, const View& out, Reduction reduction,
                                      const Stream& stream) {
  if (in.device.is_cpu())
    return on_host([&] { host_.reduce_scatter(in, out, reduction, stream); });
  require_usable("ncclReduceScatter", in);
  require_usable("ncclReduceScatter", out);
  require_reducible("reduce_scatter", in, reduction);
  require_parts("reduce_scatter", in, out, size());
  finish(ncclReduceScatter(in.data, out.data, count_of(out), type_of(in.dtype),
                           operation_of(reduction), comm_, cuda::native(stream)),
         "ncclReduceScatter");
}

void NcclCommunicator::all_reduce_beside(const View& view, Reduction reduction,
                                         const Stream& stream) {
  if (!peers_ || view.device.is_cpu())
    return all_reduce(view, reduction, stream);
  require_usable("all_reduce_beside", view);
  require_reducible("all_reduce_beside", view, reduction);
  peers_->all_reduce(view, reduction, stream);
}

void NcclCommunicator::reduce_scatter_beside(const ConstView& in, const View& out,
                                             Reduction reduction, const Stream& stream) {
  if (!peers_ || in.device.is_cpu())
    return reduce_scatter(in, out, reduction, stream);
  require_usable("reduce_scatter_beside", in);
  require_usable("reduce_scatter_beside", out);
  require_reducible("reduce_scatter_beside", in, reduction);
  require_parts("reduce_scatter_beside", in, out, size());
  peers_->reduce_scatter(in, out, reduction, stream);
}

void NcclCommunicator::broadcast(const View& view, int root, const Stream& stream) {
  if (view.device.is_cpu())
    return on_host([&] { host_.broadcast(view, root, stream); });
  require_usable("ncclBroadcast", view);
  require_root("broadcast", root);
  finish(ncclBroadcast(view.data, view.data, bytes_of(view), ncclUint8, root, comm_,
                       cuda::native(stream)),
         "ncclBroadcast");
}

void NcclCommunicator::all_gather(const ConstView& mine, const View& all, const Stream& stream) {
  if (mine.device.is_cpu())
    return on_host([&] { host_.all_gather(mine, all, stream); });
  require_usable("ncclAllGather", mine);
  require_usable("ncclAllGather", all);
  require_parts("all_gather", all, mine, size());
  finish(ncclAllGather(mine.data, all.data, bytes_of(mine), ncclUint8, comm_, cuda::native(stream)),
         "ncclAllGather");
}

std::vector<std::byte> NcclCommunicator::all_gather(std::span<const std::byte> mine) {
  return on_host([&] { return host_.all_gather(mine); });
}

void NcclCommunicator::barrier() {
  on_host([this] { host_.barrier(); });
}

bool NcclCommunicator::roll_call(bool flag) {
  return on_host([&] { return host_.roll_call(flag); });
}

// Throws Error, which names this rank and the step, where what comes before the mark fails or takes
// longer than the deadline, since a collective in it waits for a rank that does not come.
void NcclCommunicator::wait(const cuda::Mark& mark) {
  if (comm_ == nullptr)
    return mark.wait();
  const Clock::time_point start = Clock::now();
  auto reached = [this, &mark] {
    try {
      return mark.reached();
    } catch (const Error& error) {
      give_up();
      throw Error(fmt::format("{}: {}", place(), error.what()));
    }
  };
  while (!reached()) {
    const ncclResult_t code = state();
    if (code != ncclSuccess && code != ncclInProgress)
      fail(code, "ncclCommGetAsyncError");
    if (Clock::now() - start > deadline())
      time_out("wait");
    pause(start);
  }
}

}  // namespace

std::unique_ptr<Communicator> make_nccl_communicator(Communicator& host, const Stream& stream,
                                                     PeerCopying copying) {
  require<Error>(stream.device.is_cuda(), "[nccl] the stream is on {}", to_string(stream.device));
  return std::make_unique<NcclCommunicator>(host, stream, copying);
}

}  // namespace hew::dist
