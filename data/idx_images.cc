#include "data/idx_images.h"

#include <zlib.h>

#include <array>
#include <bit>
#include <filesystem>
#include <limits>

#include "core/error.h"
#include "core/handle.h"
#include "data/raw_images.h"
#include "io/atomic_file.h"

namespace hew {
namespace {

struct GzipTraits {
  using Value = gzFile;
  static Value null() { return nullptr; }
  static void destroy(Value file) noexcept { gzclose(file); }
};

/// A file read from front to back, gzipped or not.
class GzipFile {
 public:
  explicit GzipFile(const std::string& path) : path_(path) {
    open_to_read(path);  // for its error
    file_ = UniqueHandle<GzipTraits>(gzopen(path.c_str(), "rb"));
    require<DataError>(static_cast<bool>(file_), "{}: cannot be opened", path);
    constexpr unsigned kBuffer = 1U << 17U;
    gzbuffer(file_.get(), kBuffer);
  }

  /// Bytes that there were, fewer than asked for at the end alone.
  std::int64_t read(std::span<std::uint8_t> out) {
    constexpr std::int64_t kMost = std::int64_t{1} << 30U;  // gzread counts in an int
    std::int64_t got = 0;
    while (got < std::ssize(out)) {
      const auto wanted = static_cast<unsigned>(std::min(kMost, std::ssize(out) - got));
      const int count = gzread(file_.get(), out.data() + got, wanted);
      int code = Z_OK;
      const char* reason = gzerror(file_.get(), &code);
      require<DataError>(code != Z_BUF_ERROR, "{}: truncated inside of its gzip data", path_);
      require<DataError>(count >= 0 && code == Z_OK, "{}: damaged gzip data: {}", path_, reason);
      if (count == 0)
        break;
      got += count;
    }
    return got;
  }

 private:
  const std::string& path_;
  UniqueHandle<GzipTraits> file_;
};

/// The content of an IDX file of bytes with this many dimensions.
struct IdxFile {
  std::array<std::int64_t, 3> extents{1, 1, 1};
  std::vector<std::uint8_t> values;
};

constexpr std::uint8_t kUnsignedByte = 8;

IdxFile read_idx(const std::string& path, std::size_t dimensions) {
  GzipFile file(path);
  std::array<std::uint8_t, 16> header{};
  const std::size_t header_bytes = 4 + 4 * dimensions;
  const auto got = file.read(std::span(header).first(header_bytes));
  require<DataError>(got > 0, "{}: empty", path);
  require<DataError>(
      header[0] == 0 && header[1] == 0 && header[2] == kUnsignedByte && header[3] == dimensions,
      "{}: not an IDX file of bytes with {} dimensions", path, dimensions);
  require<DataError>(got == static_cast<std::int64_t>(header_bytes), "{}: truncated header", path);
  IdxFile idx;
  std::int64_t bytes = 1;
  for (std::size_t i = 0; i < dimensions; ++i) {
    const std::uint8_t* at = header.data() + 4 + 4 * i;
    idx.extents[i] = std::int64_t{at[0]} << 24U | std::int64_t{at[1]} << 16U |
                     std::int64_t{at[2]} << 8U | std::int64_t{at[3]};
    require<DataError>(idx.extents[i] > 0, "{}: its header says dimension {} is 0", path, i);
    constexpr std::int64_t kMost = std::int64_t{1} << 40U;
    require<DataError>(bytes <= kMost / idx.extents[i], "{}: its header asks for too much", path);
    bytes *= idx.extents[i];
  }
  // In pieces, so that a header that lies does not ask for memory that nothing fills.
  constexpr std::int64_t kPiece = std::int64_t{1} << 26U;
  while (std::ssize(idx.values) < bytes) {
    const std::int64_t begin = std::ssize(idx.values);
    const std::int64_t piece = std::min(kPiece, bytes - begin);
    idx.values.resize(static_cast<std::size_t>(begin + piece));
    const auto count = file.read(std::span(idx.values).subspan(static_cast<std::size_t>(begin)));
    require<DataError>(count == piece, "{}: truncated, {} of {} bytes of content are there", path,
                       begin + count, bytes);
  }
  require<DataError>(file.read(std::span(header).first(1)) == 0,
                     "{}: goes on after the {} bytes that its header asks for", path, bytes);
  return idx;
}

std::string replace(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.rfind(from);
  return at == std::string::npos ? text : text.replace(at, from.size(), to);
}

std::string labels_path(const std::string& path) {
  const std::filesystem::path file(path);
  const std::string name = file.filename().string();
  require<DataError>(name.find("images") != std::string::npos,
                     "{}: its name lacks 'images', so the file of its labels is not known", path);
  const std::string wanted = replace(replace(name, "images", "labels"), "idx3", "idx1");
  const std::string other =
      wanted.ends_with(".gz") ? wanted.substr(0, wanted.size() - 3) : wanted + ".gz";
  for (const std::string& candidate : {wanted, other}) {
    std::error_code ignored;
    if (std::filesystem::exists(file.parent_path() / candidate, ignored))
      return (file.parent_path() / candidate).string();
  }
  throw DataError(fmt::format("{}: there is no {} with its labels", path, wanted));
}

}  // namespace

IdxKind idx_kind(const std::string& path) {
  std::array<std::uint8_t, 4> magic{};
  if (GzipFile(path).read(magic) < std::ssize(magic) || magic[0] != 0 || magic[1] != 0 ||
      magic[2] != kUnsignedByte)
    return IdxKind::kNone;
  return magic[3] == 3 ? IdxKind::kImages : magic[3] == 1 ? IdxKind::kLabels : IdxKind::kNone;
}

std::shared_ptr<const ImageSet> open_idx_images(const std::string& path) {
  const std::string beside = labels_path(path);
  IdxFile images = read_idx(path, 3);
  const IdxFile labels = read_idx(beside, 1);
  const auto [count, height, width] = images.extents;
  require<DataError>(count == labels.extents[0], "{}: {} images, but {} labels in {}", path, count,
                     labels.extents[0], beside);
  const std::vector<std::int32_t> numbers(labels.values.begin(), labels.values.end());
  return std::make_shared<RawImages>(
      ImageSet::Info{.path = path, .format = "idx", .classes = numbered_classes(numbers, 1)},
      ImageShape{1, height, width}, std::move(images.values), numbers);
}

}  // namespace hew
