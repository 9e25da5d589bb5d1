#include "core/error.h"
#include "data/image_codec.h"

namespace hew {

DecodedImage decode_png(std::span<const std::uint8_t> /*bytes*/, const std::string& name) {
  throw BackendError("libpng", 0, name + ": this build reads no PNG (install libpng-dev)");
}

std::vector<std::uint8_t> encode_png(const DecodedImage& /*image*/) {
  throw BackendError("libpng", 0, "this build writes no PNG (install libpng-dev)");
}

}  // namespace hew
