#include "core/cuda_device.h"
#include "core/error.h"

namespace hew::cuda {
namespace {

[[noreturn]] void refuse(const char* what) {
  throw BackendError(what, 0, "this build has no CUDA (configure with the preset cuda)");
}

}  // namespace

int device_count() {
  return 0;
}

Stream make_stream(int /*index*/) {
  refuse("cuda");
}

Stream side_stream(const Stream& /*stream*/) {
  refuse("cuda");
}

int compute_capability(const Stream& /*stream*/) {
  refuse("cuda");
}

void synchronize(const Stream& /*stream*/) {
  refuse("synchronize");
}

void copy(void* /*to*/, Device /*to_device*/, const void* /*from*/, Device /*from_device*/,
          std::int64_t /*bytes*/, const Stream& /*stream*/) {
  refuse("copy_memory");
}

void zero(void* /*data*/, std::int64_t /*bytes*/, const Stream& /*stream*/) {
  refuse("zero_memory");
}

Mark::Mark() {
  refuse("mark");
}

Mark::~Mark() = default;

void Mark::record(const Stream& /*stream*/) {
  refuse("mark");
}

void Mark::hold(const Stream& /*stream*/) const {
  refuse("mark");
}

bool Mark::reached() const {
  refuse("mark");
}

void Mark::wait() const {
  refuse("mark");
}

double Mark::seconds_since(const Mark& /*earlier*/) const {
  refuse("mark");
}

void wait(const Mark& /*mark*/, const Stream& /*stream*/) {
  refuse("wait");
}

void begin_range(std::string_view /*name*/) {
  refuse("range");
}

void end_range() noexcept {}

std::string kind(const Stream& /*stream*/) {
  refuse("cuda");
}

std::int64_t memory_bytes(int /*index*/) {
  refuse("memory_bytes");
}

std::string describe(int /*index*/) {
  refuse("describe");
}

}  // namespace hew::cuda
