#include "kernels/hash.h"

namespace hew::kernels {

void hash_words(const ConstView& x, const View& hash, const Stream& stream) {
  require_shape("hash_words", "hash", hash, {1});
  require_dtype("hash_words", "hash", hash, DType::kInt64);
  require_device("hash_words", "x", x, hash);
  // Bytes are bytes: of the types to dispatch on, any one will do.
  dispatch("hash_words", hash.device, stream, DType::kFloat64,
           [&]<class T>(auto backend) { hash_words(backend, x, hash); });
}

}  // namespace hew::kernels
