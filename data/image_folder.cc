#include "data/image_folder.h"

#include <algorithm>
#include <filesystem>
#include <numeric>

#include "core/error.h"
#include "core/parallel.h"
#include "data/image_codec.h"
#include "data/image_probe.h"
#include "io/atomic_file.h"

namespace hew {
namespace {

namespace fs = std::filesystem;

struct ImageFile {
  std::string path;
  std::int32_t label = 0;
  std::int64_t bytes = 0;
  ImageShape shape;
};

class FolderImages final : public ImageSet {
 public:
  FolderImages(Info info, std::vector<ImageFile> files)
      : ImageSet(std::move(info)), files_(std::move(files)) {}

  std::int64_t size() const override { return std::ssize(files_); }
  std::int64_t label(std::int64_t i) const override { return file(i).label; }
  ImageShape shape_of(std::int64_t i) const override { return file(i).shape; }
  std::string name(std::int64_t i) const override { return file(i).path; }
  DecodedImage read(std::int64_t i) const override {
    return decode_image(encoded(i), file(i).path);
  }
  std::vector<std::uint8_t> encoded(std::int64_t i) const override {
    return read_all(file(i).path);
  }

 private:
  const ImageFile& file(std::int64_t i) const { return files_[static_cast<std::size_t>(i)]; }

  std::vector<ImageFile> files_;
};

bool is_hidden(const fs::path& path) {
  return path.filename().string().starts_with('.');
}

std::vector<std::string> classes_in(const std::string& folder) {
  std::vector<std::string> classes;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.is_directory() && !is_hidden(entry.path()))
      classes.push_back(entry.path().filename().string());
  }
  require<DataError>(!classes.empty(),
                     "{}: neither a folder for each class nor a set of images is in this folder",
                     folder);
  std::ranges::sort(classes);
  return classes;
}

/// The files below a class's folder.
std::vector<ImageFile> files_of(const fs::path& folder, std::int32_t label) {
  std::vector<ImageFile> files;
  const auto options = fs::directory_options::follow_directory_symlink;
  for (auto at = fs::recursive_directory_iterator(folder, options), end = decltype(at){}; at != end;
       ++at) {
    if (is_hidden(at->path()))
      at.disable_recursion_pending();
    else if (!at->is_directory())
      files.push_back({.path = at->path().string(), .label = label, .bytes = 0, .shape = {}});
  }
  require<DataError>(!files.empty(), "{}: no image is in this class", folder.string());
  std::ranges::sort(files, {}, &ImageFile::path);
  return files;
}

std::optional<ImageShape> common_shape(const std::vector<ImageFile>& files) {
  const ImageShape& first = files.front().shape;
  const bool equal = std::ranges::all_of(files, [&](const auto& f) { return f.shape == first; });
  return equal ? std::optional(first) : std::nullopt;
}

/// Sizes and shapes; throws for the first file that is no whole image.
void look_at(std::vector<ImageFile>& files) {
  for_each_parallel(std::ssize(files), [&](std::size_t i) {
    files[i].shape = probe_image_file(files[i].path);
    files[i].bytes = static_cast<std::int64_t>(fs::file_size(files[i].path));
  });
}

}  // namespace

std::shared_ptr<const ImageSet> open_image_folder(const std::string& path) {
  constexpr std::int64_t kDecodedBytes = std::int64_t{64} << 20U;
  ImageSet::Info info{.path = path, .format = "folder"};
  std::vector<ImageFile> files;
  try {
    info.classes = classes_in(path);
    for (std::size_t label = 0; label < info.classes.size(); ++label) {
      std::vector<ImageFile> more =
          files_of(fs::path(path) / info.classes[label], static_cast<std::int32_t>(label));
      std::ranges::move(more, std::back_inserter(files));
    }
    look_at(files);
  } catch (const fs::filesystem_error& error) {
    throw DataError(fmt::format("{}: {}", error.path1().string(), error.code().message()));
  }
  info.shape = common_shape(files);
  const std::int64_t bytes =
      std::transform_reduce(files.begin(), files.end(), std::int64_t{0}, std::plus<>(),
                            [](const auto& f) { return f.bytes; });
  const auto images = std::make_shared<FolderImages>(std::move(info), std::move(files));
  // One at least: a build without the library for it says so here.
  const std::int64_t decoded = bytes <= kDecodedBytes ? images->size() : 1;
  for_each_parallel(decoded, [&](std::size_t i) { images->read(static_cast<std::int64_t>(i)); });
  return images;
}

}  // namespace hew
