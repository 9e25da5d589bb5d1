#include "core/beside.h"

#include "core/error.h"

namespace hew {
namespace {

// One for all work beside a stream, made with the first.
struct SideQueue {
  explicit SideQueue(const Stream& main) : stream(side_stream(main)) {}
  Stream stream;
};

}  // namespace

Beside::Beside(const Stream& stream) : main_(stream), side_(stream) {
  if (stream.device.is_cpu())
    return;
  side_ = stream.state->get<SideQueue>(stream).stream;
  done_ = std::make_unique<cuda::Mark>();
  done_->record(main_);
  done_->hold(side_);
}

Beside::~Beside() {
  try {
    join();
  } catch (const Error&) {  // the device has failed, as the next call on it will say
  }
}

void Beside::join() {
  if (done_ == nullptr)
    return;
  done_->record(side_);
  done_->hold(main_);
  done_ = nullptr;
}

}  // namespace hew
