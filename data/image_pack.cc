#include "data/image_pack.h"

#include <algorithm>
#include <limits>

#include "core/error.h"
#include "data/image_codec.h"
#include "io/hdf5.h"

namespace hew {
namespace {

class PackImages final : public ImageSet {
 public:
  struct Index {
    std::vector<std::int32_t> labels;
    std::vector<std::int64_t> offsets;  // [images + 1]
    std::vector<std::int32_t> shapes;   // [images, 3]: height, width, channels
    bool files = false;                 // bytes are PNG or JPEG files, not pixels
  };
  PackImages(Info info, H5Reader reader, Index index, std::int64_t in_memory)
      : ImageSet(std::move(info)), reader_(std::move(reader)), index_(std::move(index)) {
    if (index_.offsets.back() <= in_memory)
      data_ = reader_.read_vector<std::uint8_t>("data");
  }

  std::int64_t size() const override { return std::ssize(index_.labels); }
  std::int64_t label(std::int64_t i) const override {
    return index_.labels[static_cast<std::size_t>(i)];
  }
  ImageShape shape_of(std::int64_t i) const override {
    const std::int32_t* shape = index_.shapes.data() + 3 * i;
    return {.channels = shape[2], .height = shape[0], .width = shape[1]};
  }
  std::string name(std::int64_t i) const override { return fmt::format("{}: image {}", path(), i); }
  DecodedImage read(std::int64_t i) const override {
    if (index_.files)
      return decode_image(bytes(i), name(i));
    const ImageShape shape = shape_of(i);
    return {.pixels = bytes(i),
            .height = shape.height,
            .width = shape.width,
            .channels = shape.channels};
  }
  std::vector<std::uint8_t> encoded(std::int64_t i) const override {
    return index_.files ? bytes(i) : std::vector<std::uint8_t>{};
  }

 private:
  std::vector<std::uint8_t> bytes(std::int64_t i) const {
    const auto at = static_cast<std::size_t>(i);
    const std::int64_t begin = index_.offsets[at];
    const std::int64_t end = index_.offsets[at + 1];
    if (!data_.empty())
      return {data_.begin() + begin, data_.begin() + end};
    std::vector<std::uint8_t> out(static_cast<std::size_t>(end - begin));
    reader_.read_range("data", begin, std::span(out));
    return out;
  }

  H5Reader reader_;
  Index index_;
  std::vector<std::uint8_t> data_;  // all of it, or nothing
};

std::vector<std::string> split_lines(const std::vector<std::uint8_t>& text) {
  std::vector<std::string> lines;
  std::string line;
  for (const std::uint8_t byte : text) {
    if (byte != '\n') {
      line += static_cast<char>(byte);
      continue;
    }
    lines.push_back(std::move(line));
    line.clear();
  }
  return lines;
}

/// Throws DataError where the parts of a pack do not belong together.
void check_index(const std::string& path, const PackImages::Index& index, std::int64_t classes,
                 std::int64_t data_bytes) {
  const std::int64_t count = std::ssize(index.labels);
  require<DataError>(count > 0, "{}: holds no images", path);
  require<DataError>(std::ssize(index.offsets) == count + 1 &&
                         std::ssize(index.shapes) == 3 * count && index.offsets.front() == 0 &&
                         index.offsets.back() == data_bytes,
                     "{}: labels, offsets, shapes and data do not fit each other", path);
  for (std::int64_t i = 0; i < count; ++i) {
    const auto at = static_cast<std::size_t>(i);
    const std::int32_t* shape = index.shapes.data() + 3 * i;
    const std::int64_t bytes = index.offsets[at + 1] - index.offsets[at];
    require<DataError>(index.labels[at] >= 0 && index.labels[at] < classes,
                       "{}: image {} has label {} of {} classes", path, i, index.labels[at],
                       classes);
    require<DataError>(shape[0] > 0 && shape[1] > 0 && (shape[2] == 1 || shape[2] == 3),
                       "{}: image {} has shape {} x {} x {}", path, i, shape[0], shape[1],
                       shape[2]);
    const std::int64_t pixels = std::int64_t{shape[0]} * shape[1] * shape[2];
    require<DataError>(index.files ? bytes > 0 : bytes == pixels, "{}: image {} has {} bytes", path,
                       i, bytes);
  }
}

std::optional<ImageShape> common_shape(const std::vector<std::int32_t>& shapes) {
  for (std::size_t at = 3; at < shapes.size(); ++at) {
    if (shapes[at] != shapes[at - 3])
      return std::nullopt;
  }
  return ImageShape{.channels = shapes[2], .height = shapes[0], .width = shapes[1]};
}

}  // namespace

std::shared_ptr<const ImageSet> open_image_pack(const std::string& path, std::int64_t in_memory) {
  H5Reader reader(path, kImagePackKind, kImagePackVersion);
  PackImages::Index index{.labels = reader.read_vector<std::int32_t>("labels"),
                          .offsets = reader.read_vector<std::int64_t>("offsets"),
                          .shapes = reader.read_vector<std::int32_t>("shapes")};
  const std::string encoding = reader.attribute_string("/", "encoding");
  require<DataError>(encoding == "pixels" || encoding == "files",
                     "{}: images are kept as '{}', which this hew does not know", path, encoding);
  index.files = encoding == "files";
  ImageSet::Info info{.path = path,
                      .format = "hew-h5",
                      .classes = split_lines(reader.read_vector<std::uint8_t>("classes"))};
  check_index(path, index, std::ssize(info.classes), reader.shape("data").numel());
  info.shape = common_shape(index.shapes);
  return std::make_shared<PackImages>(std::move(info), std::move(reader), std::move(index),
                                      in_memory);
}

}  // namespace hew
