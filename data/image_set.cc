#include "data/image_set.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <filesystem>

#include "core/error.h"
#include "data/cifar_images.h"
#include "data/idx_images.h"
#include "data/image_codec.h"
#include "data/image_folder.h"
#include "data/image_pack.h"
#include "data/path_pattern.h"
#include "data/text_lines.h"
#include "io/atomic_file.h"
#include "io/hdf5.h"
#include "io/sha256.h"

namespace hew {
namespace {

namespace fs = std::filesystem;
using Opened = std::shared_ptr<const ImageSet>;

/// One after another.
class SeveralImages final : public ImageSet {
 public:
  SeveralImages(Info info, std::vector<Opened> parts)
      : ImageSet(std::move(info)), parts_(std::move(parts)) {
    for (const Opened& part : parts_) {
      size_ += part->size();
      ends_.push_back(size_);
    }
  }

  std::int64_t size() const override { return size_; }
  std::int64_t label(std::int64_t i) const override {
    const auto [part, at] = find(i);
    return part->label(at);
  }
  ImageShape shape_of(std::int64_t i) const override {
    const auto [part, at] = find(i);
    return part->shape_of(at);
  }
  DecodedImage read(std::int64_t i) const override {
    const auto [part, at] = find(i);
    return part->read(at);
  }
  std::string name(std::int64_t i) const override {
    const auto [part, at] = find(i);
    return part->name(at);
  }
  std::vector<std::uint8_t> encoded(std::int64_t i) const override {
    const auto [part, at] = find(i);
    return part->encoded(at);
  }

 private:
  std::pair<const ImageSet*, std::int64_t> find(std::int64_t i) const {
    const auto end = std::upper_bound(ends_.begin(), ends_.end(), i);
    const auto& part = parts_[static_cast<std::size_t>(end - ends_.begin())];
    return {part.get(), i - (*end - part->size())};
  }

  std::vector<Opened> parts_;
  std::vector<std::int64_t> ends_;  // images up to the end of each part
  std::int64_t size_ = 0;
};

/// The longer of two lists of classes, of which one must begin with the other: files without names
/// know only the labels that occur in them.
std::vector<std::string> join_classes(const std::vector<std::string>& known, const ImageSet& next,
                                      const std::string& first_path) {
  const auto& classes = next.classes();
  const bool longer = classes.size() > known.size();
  const auto& shorter = longer ? known : classes;
  require<DataError>(std::equal(shorter.begin(), shorter.end(), (longer ? classes : known).begin()),
                     "{}: its classes are not those of {}", next.path(), first_path);
  return longer ? classes : known;
}

Opened join(std::vector<Opened> parts, const std::string& path) {
  if (parts.size() == 1)
    return parts.front();
  const ImageSet& first = *parts.front();
  ImageSet::Info info{
      .path = path, .format = first.format(), .classes = first.classes(), .shape = first.shape()};
  for (const Opened& part : parts) {
    info.classes = join_classes(info.classes, *part, first.path());
    if (part->format() != info.format)
      info.format = "several";
    if (part->shape() != info.shape)
      info.shape = std::nullopt;
  }
  return std::make_shared<SeveralImages>(std::move(info), std::move(parts));
}

std::vector<std::string> files_in(const std::string& folder) {
  std::vector<std::string> files;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.is_regular_file() && !entry.path().filename().string().starts_with('.'))
      files.push_back(entry.path().string());
  }
  std::ranges::sort(files);
  return files;
}

enum class FileKind : std::uint8_t { kOther, kIdxImages, kIdxLabels, kCifar, kPack, kOneImage };

FileKind kind_of(const std::string& path) {
  std::array<std::uint8_t, 4> first{};
  const FileDescriptor file = open_to_read(path);
  const auto size = static_cast<std::size_t>(size_of_file(file, path));
  const auto known = std::span(first).first(std::min(first.size(), size));
  read_at(file, path, 0, std::as_writable_bytes(known));
  if (image_format(known) != ImageFormat::kOther)
    return FileKind::kOneImage;
  constexpr std::array<std::uint8_t, 4> kSealed = {'h', 'e', 'w', '-'};
  if (std::ranges::equal(known, kSealed))
    return FileKind::kPack;
  switch (idx_kind(path)) {
    case IdxKind::kImages:
      return FileKind::kIdxImages;
    case IdxKind::kLabels:
      return FileKind::kIdxLabels;
    case IdxKind::kNone:
      break;
  }
  return is_cifar(path) ? FileKind::kCifar : FileKind::kOther;
}

Opened open_file(const std::string& path) {
  switch (kind_of(path)) {
    case FileKind::kIdxImages:
      return open_idx_images(path);
    case FileKind::kPack:
      return open_image_pack(path);
    case FileKind::kIdxLabels:
      throw DataError(fmt::format("{}: holds labels, name the file of the images", path));
    case FileKind::kOneImage:
      throw DataError(
          fmt::format("{}: is one image; a set has a folder of them for each class", path));
    case FileKind::kCifar:
    case FileKind::kOther:
      break;
  }
  require<DataError>(size_of_file(open_to_read(path), path) > 0, "{}: empty", path);
  require<DataError>(path.ends_with(".bin"),
                     "{}: not a set of images: expected an IDX file of images, a CIFAR batch "
                     "(.bin), a pack of hew data images, or a folder",
                     path);
  return open_cifar_images(path);
}

/// A folder's only set; CIFAR batches are one together, unless some of them are for testing.
Opened open_folder(const std::string& folder) {
  std::vector<std::string> sets;
  std::vector<std::string> names;
  bool batches = true;
  for (const std::string& file : files_in(folder)) {
    const FileKind kind = kind_of(file);
    const bool cifar = kind == FileKind::kCifar;
    if (!cifar && kind != FileKind::kIdxImages && kind != FileKind::kPack)
      continue;
    sets.push_back(file);
    names.push_back(fs::path(file).filename().string());
    batches = batches && cifar && names.back().starts_with("data_batch");
  }
  if (sets.empty())
    return open_image_folder(folder);
  require<DataError>(sets.size() == 1 || batches,
                     "{}: there are several sets of images in this folder, name one of {}", folder,
                     fmt::join(names, ", "));
  std::vector<Opened> parts(sets.size());
  std::ranges::transform(sets, parts.begin(), open_file);
  return join(std::move(parts), folder);
}

}  // namespace

std::vector<std::uint8_t> ImageSet::encoded(std::int64_t /*i*/) const {
  return {};
}

std::string digest_of(const ImageSet& images) {
  constexpr std::int64_t kRead = 16;
  const std::int64_t size = images.size();
  std::vector<std::int64_t> labels;
  for (std::int64_t i = 0; i < size; ++i) labels.push_back(images.label(i));
  Sha256 sha;
  sha.update(std::as_bytes(std::span(labels)));
  for (std::int64_t k = 0; k < std::min(kRead, size); ++k) {
    const DecodedImage image = images.read((size - 1) * k / (kRead - 1));
    sha.update(std::as_bytes(std::span(image.pixels)));
  }
  return sha.hex();
}

std::string class_name(const std::vector<std::string>& names, std::int64_t label) {
  return label < std::ssize(names) ? names[static_cast<std::size_t>(label)] : std::to_string(label);
}

bool names_image_set(const std::string& pattern) {
  const std::string path = expand_pattern(pattern).front();
  if (fs::is_directory(path))
    return true;
  const FileKind kind = kind_of(path);
  if (kind == FileKind::kPack)
    return H5Reader(path).kind() == kImagePackKind;
  return kind != FileKind::kOther;
}

Opened open_image_set(const std::string& pattern) {
  return open_image_set(std::span(&pattern, 1));
}

Opened open_image_set(std::span<const std::string> patterns) {
  require<DataError>(!patterns.empty(), "[images] no file is named");
  std::vector<Opened> parts;
  for (const std::string& pattern : patterns) {
    for (const std::string& path : expand_pattern(pattern)) {
      parts.push_back(fs::is_directory(path) ? open_folder(path) : open_file(path));
      const std::vector<std::string>& classes = parts.back()->classes();
      const auto name = std::ranges::find_if_not(classes, is_utf8);
      require<DataError>(name == classes.end(), "{}: the name of class {} is not UTF-8", path,
                         name - classes.begin());
      const auto broken = std::ranges::find_if(
          classes, [](const std::string& c) { return c.find('\n') != std::string::npos; });
      require<DataError>(broken == classes.end(), "{}: the name of class {} has a line end", path,
                         broken - classes.begin());
    }
  }
  return join(std::move(parts), patterns.front());
}

}  // namespace hew
