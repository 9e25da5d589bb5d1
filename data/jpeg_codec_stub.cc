#include "core/error.h"
#include "data/image_codec.h"

namespace hew {
namespace {

constexpr const char* kMissing = "this build has no JPEG (install libjpeg-dev)";

}  // namespace

DecodedImage decode_jpeg(std::span<const std::uint8_t> /*bytes*/, const std::string& name) {
  throw BackendError("libjpeg", 0, name + ": " + kMissing);
}

std::vector<std::uint8_t> encode_jpeg(const DecodedImage& /*image*/, int /*quality*/) {
  throw BackendError("libjpeg", 0, kMissing);
}

}  // namespace hew
