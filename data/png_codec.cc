#include <png.h>

#include <algorithm>
#include <csetjmp>

#include "core/error.h"
#include "data/image_codec.h"

namespace hew {
namespace {

/// Where libpng reads, and what it said when it gave up.
struct Source {
  std::span<const std::uint8_t> rest;
  std::string reason;
};

void take_bytes(png_structp png, png_bytep out, std::size_t count) {
  auto* source = static_cast<Source*>(png_get_io_ptr(png));
  if (count > source->rest.size())
    png_error(png, "truncated");
  std::copy_n(source->rest.begin(), count, out);
  source->rest = source->rest.subspan(count);
}

[[noreturn]] void give_up(png_structp png, png_const_charp reason) {
  static_cast<Source*>(png_get_error_ptr(png))->reason = reason;
  png_longjmp(png, 1);
}

void ignore_warning(png_structp /*png*/, png_const_charp /*text*/) {}

/// libpng's state. It leaves by longjmp, so nothing with a destructor lives in the functions that
/// call it.
class PngReader {
 public:
  explicit PngReader(std::span<const std::uint8_t> bytes) : source_{bytes, {}} {
    png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, &source_, give_up, ignore_warning);
    if (png_ != nullptr)
      info_ = png_create_info_struct(png_);
    require<DataError>(info_ != nullptr, "libpng does not start");
    png_set_read_fn(png_, &source_, take_bytes);
  }
  PngReader(const PngReader&) = delete;
  PngReader& operator=(const PngReader&) = delete;
  ~PngReader() { png_destroy_read_struct(&png_, &info_, nullptr); }

  const std::string& reason() const { return source_.reason; }

  /// Shape of what read_rows() gives; false after an error.
  bool read_header(ImageShape& shape) {
    if (setjmp(png_jmpbuf(png_)) != 0)
      return false;
    png_read_info(png_, info_);
    png_set_palette_to_rgb(png_);
    png_set_expand_gray_1_2_4_to_8(png_);
    png_set_scale_16(png_);
    png_set_strip_alpha(png_);
    passes_ = png_set_interlace_handling(png_);
    png_read_update_info(png_, info_);
    shape = {png_get_channels(png_, info_), png_get_image_height(png_, info_),
             png_get_image_width(png_, info_)};
    return true;
  }

  bool read_rows(std::uint8_t* pixels, std::int64_t height, std::int64_t row_bytes) {
    if (setjmp(png_jmpbuf(png_)) != 0)
      return false;
    if (static_cast<std::int64_t>(png_get_rowbytes(png_, info_)) != row_bytes)
      png_error(png_, "unexpected size of rows");
    for (int pass = 0; pass < passes_; ++pass) {
      for (std::int64_t y = 0; y < height; ++y) png_read_row(png_, pixels + y * row_bytes, nullptr);
    }
    png_read_end(png_, nullptr);
    return true;
  }

 private:
  Source source_;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
  int passes_ = 1;
};

}  // namespace

DecodedImage decode_png(std::span<const std::uint8_t> bytes, const std::string& name) {
  PngReader reader(bytes);
  ImageShape shape;
  require<DataError>(reader.read_header(shape), "{}: damaged PNG: {}", name, reader.reason());
  check_pixels(shape.height, shape.width, name);
  DecodedImage image{
      .pixels = {}, .height = shape.height, .width = shape.width, .channels = shape.channels};
  const std::int64_t row_bytes = shape.width * shape.channels;
  image.pixels.resize(static_cast<std::size_t>(shape.height * row_bytes));
  require<DataError>(reader.read_rows(image.pixels.data(), shape.height, row_bytes),
                     "{}: damaged PNG: {}", name, reader.reason());
  return image;
}

std::vector<std::uint8_t> encode_png(const DecodedImage& image) {
  png_image header{};
  header.version = PNG_IMAGE_VERSION;
  header.width = static_cast<png_uint_32>(image.width);
  header.height = static_cast<png_uint_32>(image.height);
  header.format = image.channels == 1 ? PNG_FORMAT_GRAY : PNG_FORMAT_RGB;
  std::vector<std::uint8_t> bytes;
  png_alloc_size_t size = 0;
  // Once for the size, once for the bytes.
  for (const bool measured : {false, true}) {
    bytes.resize(size);
    const int done = png_image_write_to_memory(&header, measured ? bytes.data() : nullptr, &size,
                                               /*convert_to_8_bit=*/0, image.pixels.data(),
                                               /*row_stride=*/0, /*colormap=*/nullptr);
    if (done == 0)
      throw BackendError("libpng", static_cast<int>(header.warning_or_error), header.message);
  }
  bytes.resize(size);
  return bytes;
}

}  // namespace hew
