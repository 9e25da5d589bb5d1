// jpeglib.h needs std::size_t and FILE in front of it.
#include <cstddef>
#include <cstdio>
// clang-format off
#include <jpeglib.h>
#include <jerror.h>
// clang-format on

#include <algorithm>
#include <array>
#include <csetjmp>
#include <cstdlib>

#include "core/error.h"
#include "data/image_codec.h"

namespace hew {
namespace {

/// How libjpeg's errors come back: by longjmp, so nothing with a destructor lives in the functions
/// that call it.
struct Errors {
  jpeg_error_mgr manager;  // first: libjpeg holds a pointer to it
  std::jmp_buf jump;
  std::array<char, JMSG_LENGTH_MAX> reason;
};

[[noreturn]] void give_up(j_common_ptr info) {
  auto* errors = reinterpret_cast<Errors*>(info->err);
  info->err->format_message(info, errors->reason.data());
  std::longjmp(errors->jump, 1);
}

/// Warnings after which pixels are made up. Others, such as bytes between segments, are harmless.
bool is_damage(int code) {
  constexpr std::array kDamage = {JWRN_HIT_MARKER, JWRN_JPEG_EOF, JWRN_HUFF_BAD_CODE,
                                  JWRN_ARITH_BAD_CODE, JWRN_MUST_RESYNC};
  return std::ranges::find(kDamage, code) != kDamage.end();
}

void on_message(j_common_ptr info, int level) {
  constexpr int kWarning = -1;
  if (level == kWarning && is_damage(info->err->msg_code))
    give_up(info);
}

void start(Errors& errors) {
  jpeg_std_error(&errors.manager);
  errors.manager.error_exit = give_up;
  errors.manager.emit_message = on_message;
}

class JpegReader {
 public:
  JpegReader() {
    start(errors_);
    info_.err = &errors_.manager;
  }
  JpegReader(const JpegReader&) = delete;
  JpegReader& operator=(const JpegReader&) = delete;
  ~JpegReader() { jpeg_destroy_decompress(&info_); }

  const char* reason() const { return errors_.reason.data(); }
  bool is_cmyk() const { return info_.out_color_space == JCS_CMYK; }
  /// Whether 255 stands for no ink, as Adobe writes it.
  bool is_inverted() const { return info_.saw_Adobe_marker != 0; }

  /// Shape of what read_rows() gives, with four channels of CMYK; false after an error.
  bool read_header(std::span<const std::uint8_t> bytes, ImageShape& shape) {
    if (setjmp(errors_.jump) != 0)
      return false;
    jpeg_create_decompress(&info_);
    jpeg_mem_src(&info_, bytes.data(), static_cast<unsigned long>(bytes.size()));  // NOLINT
    jpeg_read_header(&info_, TRUE);
    const J_COLOR_SPACE stored = info_.jpeg_color_space;
    info_.out_color_space = stored == JCS_GRAYSCALE                    ? JCS_GRAYSCALE
                            : stored == JCS_CMYK || stored == JCS_YCCK ? JCS_CMYK
                                                                       : JCS_RGB;
    jpeg_calc_output_dimensions(&info_);
    shape = {info_.out_color_components, info_.output_height, info_.output_width};
    return true;
  }

  bool read_rows(std::uint8_t* pixels, std::int64_t row_bytes) {
    if (setjmp(errors_.jump) != 0)
      return false;
    jpeg_start_decompress(&info_);
    while (info_.output_scanline < info_.output_height) {
      JSAMPROW row = pixels + static_cast<std::int64_t>(info_.output_scanline) * row_bytes;
      jpeg_read_scanlines(&info_, &row, 1);
    }
    jpeg_finish_decompress(&info_);
    return true;
  }

 private:
  jpeg_decompress_struct info_{};
  Errors errors_{};
};

/// Without profiles: red is what cyan and black let through.
void cmyk_to_rgb(DecodedImage& image, bool inverted) {
  const std::size_t count = image.pixels.size() / 4;
  const std::uint8_t flip = inverted ? 0 : 255;
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint8_t* in = image.pixels.data() + 4 * i;
    const unsigned light = in[3] ^ flip;
    std::array<std::uint8_t, 3> rgb{};
    for (std::size_t c = 0; c < 3; ++c) {
      constexpr unsigned kHalf = 127;
      rgb[c] = static_cast<std::uint8_t>(((in[c] ^ flip) * light + kHalf) / 255U);
    }
    std::ranges::copy(rgb, image.pixels.begin() + static_cast<std::ptrdiff_t>(3 * i));
  }
  image.pixels.resize(3 * count);
  image.channels = 3;
}

class JpegWriter {
 public:
  JpegWriter() {
    start(errors_);
    info_.err = &errors_.manager;
  }
  JpegWriter(const JpegWriter&) = delete;
  JpegWriter& operator=(const JpegWriter&) = delete;
  ~JpegWriter() {
    jpeg_destroy_compress(&info_);
    std::free(out_);  // NOLINT(cppcoreguidelines-no-malloc): libjpeg's
  }

  const char* reason() const { return errors_.reason.data(); }
  std::vector<std::uint8_t> bytes() const { return {out_, out_ + size_}; }

  bool write(const DecodedImage& image, int quality) {
    if (setjmp(errors_.jump) != 0)
      return false;
    jpeg_create_compress(&info_);
    jpeg_mem_dest(&info_, &out_, &size_);
    info_.image_height = static_cast<JDIMENSION>(image.height);
    info_.image_width = static_cast<JDIMENSION>(image.width);
    info_.input_components = static_cast<int>(image.channels);
    info_.in_color_space = image.channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
    jpeg_set_defaults(&info_);
    jpeg_set_quality(&info_, quality, TRUE);
    constexpr int kFullColour = 90;
    if (quality >= kFullColour) {
      info_.comp_info[0].h_samp_factor = 1;
      info_.comp_info[0].v_samp_factor = 1;
    }
    jpeg_start_compress(&info_, TRUE);
    const std::int64_t row_bytes = image.width * image.channels;
    while (info_.next_scanline < info_.image_height) {
      // libjpeg does not write to what it is given.
      auto* row = const_cast<JSAMPROW>(image.pixels.data()) +  // NOLINT
                  static_cast<std::int64_t>(info_.next_scanline) * row_bytes;
      jpeg_write_scanlines(&info_, &row, 1);
    }
    jpeg_finish_compress(&info_);
    return true;
  }

 private:
  jpeg_compress_struct info_{};
  Errors errors_{};
  std::uint8_t* out_ = nullptr;
  unsigned long size_ = 0;  // NOLINT(google-runtime-int): libjpeg's type
};

}  // namespace

DecodedImage decode_jpeg(std::span<const std::uint8_t> bytes, const std::string& name) {
  JpegReader reader;
  ImageShape shape;
  require<DataError>(reader.read_header(bytes, shape), "{}: damaged JPEG: {}", name,
                     reader.reason());
  check_pixels(shape.height, shape.width, name);
  DecodedImage image{
      .pixels = {}, .height = shape.height, .width = shape.width, .channels = shape.channels};
  const std::int64_t row_bytes = shape.width * shape.channels;
  image.pixels.resize(static_cast<std::size_t>(shape.height * row_bytes));
  require<DataError>(reader.read_rows(image.pixels.data(), row_bytes), "{}: damaged JPEG: {}", name,
                     reader.reason());
  if (reader.is_cmyk())
    cmyk_to_rgb(image, reader.is_inverted());
  return image;
}

std::vector<std::uint8_t> encode_jpeg(const DecodedImage& image, int quality) {
  JpegWriter writer;
  require<DataError>(writer.write(image, quality), "cannot write JPEG: {}", writer.reason());
  return writer.bytes();
}

}  // namespace hew
