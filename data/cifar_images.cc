#include "data/cifar_images.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <optional>

#include "core/error.h"
#include "data/raw_images.h"
#include "io/atomic_file.h"

namespace hew {
namespace {

constexpr std::int64_t kSide = 32;
constexpr std::int64_t kPlane = kSide * kSide;
constexpr std::int64_t kPixels = 3 * kPlane;

struct CifarFormat {
  const char* name;
  const char* names_file;
  std::int64_t classes;
  std::int64_t coarse_classes;  // 0: there is no such label
  std::int64_t record() const { return kPixels + (coarse_classes > 0 ? 2 : 1); }
};
constexpr CifarFormat kFormats[] = {{"cifar10", "batches.meta.txt", 10, 0},
                                    {"cifar100", "fine_label_names.txt", 100, 20}};

/// The first record with a label that this format does not have.
std::optional<std::int64_t> misfit(const CifarFormat& format,
                                   const std::vector<std::uint8_t>& bytes) {
  for (std::int64_t at = 0; at < std::ssize(bytes); at += format.record()) {
    const std::uint8_t* labels = bytes.data() + at;
    const bool fits = format.coarse_classes == 0
                          ? labels[0] < format.classes
                          : labels[0] < format.coarse_classes && labels[1] < format.classes;
    if (!fits)
      return at / format.record();
  }
  return std::nullopt;
}

/// The format of the bytes. Throws DataError.
const CifarFormat& format_of(const std::string& path, const std::vector<std::uint8_t>& bytes) {
  require<DataError>(!bytes.empty(), "{}: empty", path);
  const CifarFormat* fits_in_size = nullptr;
  for (const CifarFormat& format : kFormats) {
    if (std::ssize(bytes) % format.record() != 0)
      continue;
    if (!misfit(format, bytes))
      return format;
    fits_in_size = &format;
  }
  require<DataError>(fits_in_size != nullptr,
                     "{}: {} bytes are no whole number of records, of 3073 bytes in CIFAR-10 and "
                     "3074 in CIFAR-100",
                     path, bytes.size());
  throw DataError(fmt::format("{}: record {} has a label that {} does not have", path,
                              *misfit(*fits_in_size, bytes), fits_in_size->name));
}

std::vector<std::string> class_names(const std::string& path, const CifarFormat& format) {
  std::vector<std::string> names;
  std::ifstream in(std::filesystem::path(path).parent_path() / format.names_file);
  for (std::string line; std::getline(in, line);) {
    if (line.ends_with('\r'))
      line.pop_back();
    if (!line.empty())
      names.push_back(line);
  }
  return std::ssize(names) == format.classes ? names : numbered_classes({}, format.classes);
}

}  // namespace

bool is_cifar(const std::string& path) {
  const std::int64_t size = size_of_file(open_to_read(path), path);
  if (!path.ends_with(".bin") || size == 0 ||
      std::ranges::none_of(kFormats, [&](const auto& f) { return size % f.record() == 0; }))
    return false;
  const auto bytes = read_all(path);
  return std::ranges::any_of(
      kFormats, [&](const auto& f) { return size % f.record() == 0 && !misfit(f, bytes); });
}

std::shared_ptr<const ImageSet> open_cifar_images(const std::string& path) {
  const std::vector<std::uint8_t> bytes = read_all(path);
  const CifarFormat& format = format_of(path, bytes);
  const std::int64_t count = std::ssize(bytes) / format.record();
  std::vector<std::uint8_t> pixels(static_cast<std::size_t>(count * kPixels));
  std::vector<std::int32_t> labels;
  std::uint8_t* out = pixels.data();
  for (std::int64_t i = 0; i < count; ++i) {
    const std::uint8_t* planes = bytes.data() + (i + 1) * format.record() - kPixels;
    labels.push_back(planes[-1]);
    for (std::int64_t p = 0; p < kPlane; ++p) {
      for (std::int64_t c = 0; c < 3; ++c) *out++ = planes[c * kPlane + p];
    }
  }
  return std::make_shared<RawImages>(
      ImageSet::Info{.path = path, .format = format.name, .classes = class_names(path, format)},
      ImageShape{3, kSide, kSide}, std::move(pixels), std::move(labels));
}

}  // namespace hew
