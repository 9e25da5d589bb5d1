#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>

#include "core/error.h"
#include "core/parallel.h"
#include "data/image_codec.h"
#include "data/image_pack.h"
#include "data/image_resize.h"
#include "data/path_pattern.h"
#include "data/text_lines.h"
#include "io/hdf5.h"

namespace hew {
namespace {

struct PackedImage {
  std::vector<std::uint8_t> bytes;
  ImageShape shape;
};

void check_options(const ImagePackOptions& options) {
  constexpr std::int64_t kMostPixels = 16384;
  require<ConfigError>(options.size >= 0 && options.size <= kMostPixels,
                       "--size {}: expected 1 to {}", options.size, kMostPixels);
  require<ConfigError>(!options.square || options.size > 0, "--square needs --size");
  require<ConfigError>(options.quality >= 0 && options.quality <= 100,
                       "--quality {}: expected 1 to 100", options.quality);
  require_no_input(options.output, options.inputs);
  require_no_input(options.output, std::array{options.classes_file});
  require<ConfigError>(options.force || !std::filesystem::exists(options.output),
                       "{}: exists already; --force overwrites it", options.output);
}

std::vector<std::string> read_classes(const std::string& path, const ImageSet& images) {
  if (path.empty())
    return images.classes();
  std::ifstream in(path);
  require<DataError>(in.good(), "{}: cannot be read", path);
  std::vector<std::string> names;
  for (std::string line; std::getline(in, line);) {
    if (line.ends_with('\r'))
      line.pop_back();
    require<DataError>(!line.empty(), "{}:{}: no name", path, names.size() + 1);
    require<DataError>(is_utf8(line), "{}:{}: not UTF-8", path, names.size() + 1);
    require<DataError>(std::ranges::find(names, line) == names.end(), "{}:{}: {} a second time",
                       path, names.size() + 1, line);
    names.push_back(line);
  }
  const bool too_many = images.format() == "folder" && names.size() > images.classes().size();
  require<DataError>(names.size() >= images.classes().size() && !too_many,
                     "{}: {} names, the images have {} classes", path, names.size(),
                     images.classes().size());
  return names;
}

DecodedImage resized(const DecodedImage& image, const ImagePackOptions& options) {
  if (options.square)
    return cut_middle(resize_shorter_side(image, options.size), options.size);
  if (options.size == 0 || std::min(image.height, image.width) <= options.size)
    return image;
  return resize_shorter_side(image, options.size);
}

/// Image i as the pack keeps it. Always decodes: what is packed can be read.
PackedImage pack(const ImageSet& images, std::int64_t i, const ImagePackOptions& options,
                 bool files) {
  DecodedImage image = images.read(i);
  if (options.size > 0)
    image = resized(image, options);
  PackedImage packed{.bytes = {}, .shape = image.shape()};
  if (options.quality > 0) {
    packed.bytes = encode_jpeg(image, static_cast<int>(options.quality));
  } else if (files) {
    packed.bytes = images.encoded(i);
    require<DataError>(!packed.bytes.empty(),
                       "{}: is kept as pixels and others as files: give --size or --quality",
                       images.name(i));
  } else {
    packed.bytes = std::move(image.pixels);
  }
  return packed;
}

void append_all(const ImageSet& images, const ImagePackOptions& options, bool files, H5Writer& file,
                ImagePackResult& result) {
  constexpr std::int64_t kTogether = 256;
  std::vector<std::int64_t> offsets = {0};
  std::vector<std::int32_t> labels;
  std::vector<std::int32_t> shapes;
  for (std::int64_t begin = 0; begin < images.size(); begin += kTogether) {
    std::vector<PackedImage> packed(
        static_cast<std::size_t>(std::min(kTogether, images.size() - begin)));
    for_each_parallel(std::ssize(packed), [&](std::size_t i) {
      packed[i] = pack(images, begin + static_cast<std::int64_t>(i), options, files);
    });
    std::vector<std::uint8_t> bytes;  // of all, since HDF5 takes its time for each call
    for (const PackedImage& image : packed) {
      bytes.insert(bytes.end(), image.bytes.begin(), image.bytes.end());
      labels.push_back(static_cast<std::int32_t>(images.label(std::ssize(labels))));
      offsets.push_back(offsets.back() + std::ssize(image.bytes));
      for (const std::int64_t extent :
           {image.shape.height, image.shape.width, image.shape.channels}) {
        shapes.push_back(static_cast<std::int32_t>(extent));
      }
    }
    file.append("data", std::span<const std::uint8_t>(bytes));
  }
  file.write("labels", labels);
  file.write("offsets", offsets);
  file.write("shapes", shapes);
  result.images = std::ssize(labels);
  result.bytes = offsets.back();
}

}  // namespace

ImagePackResult write_image_pack(const ImagePackOptions& options) {
  check_options(options);
  const auto images = open_image_set(options.inputs);
  const std::vector<std::string> classes = read_classes(options.classes_file, *images);
  const bool as_they_are = options.size == 0 && options.quality == 0;
  const bool files = options.quality > 0 || (as_they_are && !images->encoded(0).empty());
  ImagePackResult result{.images = 0,
                         .classes = std::ssize(classes),
                         .bytes = 0,
                         .encoding = files ? "files" : "pixels"};
  H5Writer file(options.output, kImagePackKind, kImagePackVersion);
  file.attribute("/", "encoding", result.encoding);
  std::vector<std::uint8_t> names;
  for (const std::string& name : classes) {
    names.insert(names.end(), name.begin(), name.end());
    names.push_back('\n');
  }
  file.write("classes", names);
  append_all(*images, options, files, file, result);
  file.commit();
  return result;
}

}  // namespace hew
