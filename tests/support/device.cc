#include "tests/support/device.h"

#include <cstdlib>
#include <limits>
#include <string_view>

#include "core/error.h"

namespace hew::test {
namespace {

// By way of Wide, to which From converts.
template <class To, class Wide, class From>
std::vector<To> converted(const std::vector<From>& values) {
  std::vector<To> out(values.size());
  const auto count = std::ssize(values);
#pragma omp parallel for schedule(static)
  for (std::ptrdiff_t i = 0; i < count; ++i) {
    const auto at = static_cast<std::size_t>(i);
    out[at] = static_cast<To>(static_cast<Wide>(values[at]));
  }
  return out;
}

std::vector<double> wide_values(const Tensor& tensor) {
  if (tensor.dtype() == DType::kFloat64)
    return tensor.to_vector<double>();
  if (tensor.dtype() == DType::kFloat32)
    return converted<double, float>(tensor.to_vector<float>());
  require<DtypeError>(tensor.dtype() == DType::kBFloat16, "[rounded] {}", name_of(tensor.dtype()));
  return converted<double, float>(tensor.to_vector<BFloat16>());
}

// Of the shape of `like`, and on its stream.
Tensor rounded_to(DType dtype, const std::vector<double>& wide, const Tensor& like) {
  if (dtype == DType::kFloat64)
    return Tensor::from(wide, like.shape(), like.stream());
  if (dtype == DType::kFloat32)
    return Tensor::from(converted<float, float>(wide), like.shape(), like.stream());
  return Tensor::from(converted<BFloat16, float>(wide), like.shape(), like.stream());
}

template <class T>
Tensor filled(const Shape& shape, T value, const Stream& stream) {
  return Tensor::from(std::vector<T>(static_cast<std::size_t>(shape.numel()), value), shape,
                      stream);
}

}  // namespace

const Stream& test_stream() {
  static const bool wants_gpu = [] {
    const char* wanted = std::getenv("HEW_TEST_DEVICE");
    return wanted != nullptr && std::string_view(wanted) == "cuda";
  }();
  static const Stream cpu = make_cpu_stream();
  return wants_gpu ? gpu_stream() : cpu;
}

bool on_gpu() {
  return !test_stream().device.is_cpu();
}

const Stream& gpu_stream() {
  static const Stream gpu = make_stream({.type = DeviceType::kCuda, .index = 0});
  return gpu;
}

Tensor to(const Tensor& tensor, const Stream& stream) {
  Tensor out = Tensor::empty(tensor.shape(), tensor.dtype(), stream);
  if (!tensor.device().is_cpu())
    synchronize(tensor.stream());  // the copy is ordered on the other stream
  out.copy_from(tensor);
  return out;
}

Tensor on_cpu(const Tensor& tensor) {
  static const Stream cpu = make_cpu_stream();
  return to(tensor, cpu);
}

Tensor rounded(const Tensor& tensor, DType dtype) {
  return rounded_to(dtype, wide_values(tensor), tensor);
}

Tensor with_element(const Tensor& tensor, std::int64_t at, double value) {
  std::vector<double> wide = wide_values(tensor);
  wide.at(static_cast<std::size_t>(at)) = value;
  return rounded_to(tensor.dtype(), wide, tensor);
}

Tensor poisoned(const Shape& shape, DType dtype, const Stream& stream) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  switch (dtype) {
    case DType::kFloat32:
      return filled(shape, kNan, stream);
    case DType::kFloat64:
      return filled(shape, static_cast<double>(kNan), stream);
    case DType::kBFloat16:
      return filled(shape, BFloat16(kNan), stream);
    case DType::kInt32:
      return filled(shape, std::int32_t{-1}, stream);
    case DType::kInt64:
      return filled(shape, std::int64_t{-1}, stream);
    default:
      return filled(shape, std::uint8_t{0xff}, stream);
  }
}

}  // namespace hew::test
