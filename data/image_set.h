#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace hew {

struct ImageShape {
  std::int64_t channels = 0;
  std::int64_t height = 0;
  std::int64_t width = 0;

  friend bool operator==(const ImageShape&, const ImageShape&) = default;
};

/// Eight bits a channel: one channel of grey, or red, green and blue.
struct DecodedImage {
  std::vector<std::uint8_t> pixels;  // [height, width, channels]
  std::int64_t height = 0;
  std::int64_t width = 0;
  std::int64_t channels = 0;

  ImageShape shape() const { return {channels, height, width}; }
};

/// Labelled images, by number. Immutable, and all functions are thread-safe.
class ImageSet {
 public:
  struct Info {
    std::string path = {};    // what it was opened by, for errors
    std::string format = {};  // "idx", "cifar10", "cifar100", "folder", "hew-h5" or "several"
    std::vector<std::string> classes = {};  // name of each label; numbers where none are known
    std::optional<ImageShape> shape = {};   // of all images, where they are equal
  };
  explicit ImageSet(Info info) : info_(std::move(info)) {}
  ImageSet(const ImageSet&) = delete;
  ImageSet& operator=(const ImageSet&) = delete;
  virtual ~ImageSet() = default;

  const std::string& path() const { return info_.path; }
  const std::string& format() const { return info_.format; }
  const std::vector<std::string>& classes() const { return info_.classes; }
  const std::optional<ImageShape>& shape() const { return info_.shape; }

  virtual std::int64_t size() const = 0;
  /// In [0, classes().size()).
  virtual std::int64_t label(std::int64_t i) const = 0;
  /// Of read(i), without reading it.
  virtual ImageShape shape_of(std::int64_t i) const = 0;
  /// Throws DataError `<name(i)>: <reason>`.
  virtual DecodedImage read(std::int64_t i) const = 0;
  /// Where image i is, for people: `cats/7.png`, or `t10k-images-idx3-ubyte.gz: image 7`.
  virtual std::string name(std::int64_t i) const = 0;
  /// The bytes of the PNG or JPEG file that image i is kept as; empty where it is kept as pixels.
  virtual std::vector<std::uint8_t> encoded(std::int64_t i) const;

 private:
  Info info_;
};

/// Opens what a path or glob pattern names, told apart by content (docs/images.md): IDX files,
/// CIFAR batches, packs of `hew data images`, or a folder of such files, or one with a folder of
/// PNG and JPEG files for each class. Throws DataError `<path>: <reason>`.
std::shared_ptr<const ImageSet> open_image_set(const std::string& pattern);
/// The same of several, one after another; their classes must be the same.
std::shared_ptr<const ImageSet> open_image_set(std::span<const std::string> patterns);

/// SHA-256, in hex, of all labels and of 16 images or fewer, which lie evenly:
/// what tells one set from another without reading all of it. Throws DataError like read().
std::string digest_of(const ImageSet& images);

/// The name of a label; its number as text where `names` ends before it.
std::string class_name(const std::vector<std::string>& names, std::int64_t label);

/// Whether the first file or folder that a pattern names is such a set, by its content. Throws
/// DataError where there is none.
bool names_image_set(const std::string& pattern);

}  // namespace hew
