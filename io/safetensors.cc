#include "io/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>

#include "core/error.h"
#include "core/memory.h"
#include "io/safetensors_header.h"

namespace hew {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors holds little-endian bytes");

// The limit of the reference implementation.
constexpr std::int64_t kLongestHeader = 100'000'000;

std::array<std::byte, 8> little_endian(std::uint64_t value) {
  std::array<std::byte, 8> bytes{};
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<std::byte>((value >> (8 * i)) & 0xffU);
  }
  return bytes;
}

std::uint64_t from_little_endian(std::span<const std::byte, 8> bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    value |= std::to_integer<std::uint64_t>(bytes[i]) << (8 * i);
  }
  return value;
}

// Binary16's exponent starts 112 below float32's; scaling by 2^112 is exact for its subnormal
// numbers too.
float widened(std::uint16_t half) {
  const std::uint32_t sign = (half & 0x8000U) << 16U;
  const std::uint32_t magnitude = (half & 0x7fffU) << 13U;
  const bool finite = (half & 0x7c00U) != 0x7c00U;
  const std::uint32_t bits =
      finite ? std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) * 0x1p112F)
             : magnitude | 0x7f800000U;
  return std::bit_cast<float>(sign | bits);
}

}  // namespace

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path,
                                     std::span<const TensorSpec> tensors,
                                     const SafetensorsMetadata& metadata)
    : file_(path), name_(path.string()) {
  const SafetensorsHeader header = lay_out(tensors, metadata, name_);
  const std::string text = render(header, name_);
  require<DataError>(std::ssize(text) <= kLongestHeader, "{}: a header of {} bytes is above {}",
                     name_, text.size(), kLongestHeader);
  file_.write(little_endian(text.size()));
  file_.write(std::as_bytes(std::span(text)));
  const std::int64_t data = kSafetensorsLengthBytes + std::ssize(text);
  for (const auto& [tensor, extent] : header.tensors) {
    Slot& slot = slots_[tensor];
    slot.extent = extent;
    slot.extent.begin += data;
    slot.extent.end += data;
  }
}

void SafetensorsWriter::write(const std::string& name, const ConstView& values) {
  const auto found = slots_.find(name);
  require<DataError>(found != slots_.end(), "{}: tensor '{}' was not declared", name_, name);
  auto& [extent, written] = found->second;
  require<DataError>(!written, "{}: tensor '{}' is written twice", name_, name);
  require<DataError>(values.device.is_cpu() && (values || values.numel() == 0),
                     "{}: tensor '{}' is not in host memory", name_, name);
  require<DataError>(values.dtype == extent.dtype && values.shape == extent.shape,
                     "{}: tensor '{}' is {} {}, declared as {} {}", name_, name,
                     name_of(values.dtype), to_string(values.shape), name_of(extent.dtype),
                     to_string(extent.shape));
  file_.write_at(extent.begin, {static_cast<const std::byte*>(values.data),
                                static_cast<std::size_t>(extent.end - extent.begin)});
  written = true;
}

void SafetensorsWriter::write(const std::string& name, const Tensor& values) {
  if (values.device().is_cpu())
    return write(name, values.view());
  std::vector<std::byte> host(static_cast<std::size_t>(values.nbytes()));
  copy_memory(host.data(), Device{}, values.view().data, values.device(), values.nbytes(),
              values.stream());
  write(name, ConstView{host.data(), values.shape(), values.dtype(), {}});
}

void SafetensorsWriter::commit() {
  for (const auto& [name, slot] : slots_) {
    require<DataError>(slot.written, "{}: tensor '{}' was declared but not written", name_, name);
  }
  file_.commit();
}

SafetensorsReader::SafetensorsReader(const std::filesystem::path& path)
    : path_(path), name_(path.string()), file_(open_to_read(path)) {
  const std::int64_t size = size_of_file(file_, path);
  require<DataError>(size >= kSafetensorsLengthBytes,
                     "{}: truncated, {} bytes are too few for safetensors", name_, size);
  std::array<std::byte, 8> length_bytes{};
  read_at(file_, path, 0, length_bytes);
  const std::uint64_t length = from_little_endian(length_bytes);
  require<DataError>(length <= kLongestHeader,
                     "{}: not safetensors, a header of {} bytes is above {}", name_, length,
                     kLongestHeader);
  const std::int64_t data = kSafetensorsLengthBytes + static_cast<std::int64_t>(length);
  require<DataError>(data <= size, "{}: truncated, the header ends at byte {} of {}", name_, data,
                     size);
  std::string text(length, '\0');
  read_at(file_, path, kSafetensorsLengthBytes, std::as_writable_bytes(std::span(text)));
  SafetensorsHeader header = parse_safetensors_header(text, size - data, name_);
  tensors_ = std::move(header.tensors);
  metadata_ = std::move(header.metadata);
  for (auto& [name, extent] : tensors_) {
    extent.begin += data;
    extent.end += data;
  }
}

std::vector<std::string> SafetensorsReader::names() const {
  std::vector<std::string> names;
  for (const auto& [name, extent] : tensors_) names.push_back(name);
  return names;
}

Tensor SafetensorsReader::read(const std::string& name, const Stream& stream) const {
  const TensorExtent& from = extent(name);
  if (from.half)
    return read_half(from, stream);
  Tensor out = Tensor::empty(from.shape, from.dtype, stream);
  const auto bytes = static_cast<std::size_t>(out.nbytes());
  if (stream.device.is_cpu()) {
    read_at(file_, path_, from.begin, {static_cast<std::byte*>(out.view().data), bytes});
    return out;
  }
  std::vector<std::byte> host(bytes);
  read_at(file_, path_, from.begin, host);
  copy_memory(out.view().data, out.device(), host.data(), Device{}, out.nbytes(), stream);
  return out;
}

Tensor SafetensorsReader::read_half(const TensorExtent& from, const Stream& stream) const {
  std::vector<std::uint16_t> halves(static_cast<std::size_t>(from.shape.numel()));
  read_at(file_, path_, from.begin, std::as_writable_bytes(std::span(halves)));
  std::vector<float> values(halves.size());
  std::ranges::transform(halves, values.begin(), widened);
  return Tensor::from(values, from.shape, stream);
}

const TensorExtent& SafetensorsReader::extent(const std::string& name) const {
  const auto found = tensors_.find(name);
  require<DataError>(found != tensors_.end(), "{}: there is no tensor '{}'", name_, name);
  return found->second;
}

}  // namespace hew
