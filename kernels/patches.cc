#include "kernels/patches.h"

namespace hew::kernels {

void patches(const Patches& args, const Stream& stream) {
  constexpr std::string_view kOp = "patches";
  const Shape& shape = args.images.shape;
  const std::int64_t p = args.size;
  require<ShapeError>(shape.rank() == 4, "[{}] images have shape {}, expected [B, C, H, W]", kOp,
                      to_string(shape));
  require<ShapeError>(p > 0 && shape[2] % p == 0 && shape[3] % p == 0,
                      "[{}] images of shape {} do not fall into patches of {}", kOp,
                      to_string(shape), p);
  require_dtype(kOp, "images", args.images, DType::kFloat32);
  require_shape(kOp, "y", args.y, {shape[0] * (shape[2] / p) * (shape[3] / p), shape[1] * p * p});
  require_device(kOp, "y", args.y, args.images);
  dispatch(kOp, args.y.device, stream, args.y.dtype,
           [&]<class T>(auto backend) { patches<T>(backend, args); });
}

}  // namespace hew::kernels
