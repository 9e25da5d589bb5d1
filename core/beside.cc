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

Beside::~Beside() {
  try {
    join();
  } catch (const Error&) {  // the device has failed, as the next call on it will say
  }
}

Stream Beside::begin() {
  join();
  if (main_.device.is_cpu())
    return main_;
  Stream side = main_.state->get<SideQueue>(main_).stream;
  mark_ = std::make_unique<cuda::Mark>();
  mark_->record(main_);
  mark_->hold(side);
  return side;
}

void Beside::join() {
  if (mark_ != nullptr) {
    mark_->record(main_.state->get<SideQueue>(main_).stream);
    mark_->hold(main_);
  }
  mark_ = nullptr;
  kept_.clear();
}

}  // namespace hew
