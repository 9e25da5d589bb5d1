#include "data/image_folder.h"

#include <doctest/doctest.h>

#include "core/error.h"
#include "data/image_codec.h"
#include "data/image_probe.h"
#include "tests/data/sample_images.h"
#include "tests/io/scratch.h"

namespace hew {
namespace {

using test::png_of_colour;

std::string jpeg_of_colour(std::int64_t side, std::uint8_t grey) {
  const auto count = static_cast<std::size_t>(side * side);
  const auto bytes = encode_jpeg({.pixels = std::vector<std::uint8_t>(count, grey),
                                  .height = side,
                                  .width = side,
                                  .channels = 1},
                                 90);
  return {bytes.begin(), bytes.end()};
}

struct Folder {
  Folder() {
    for (const char* name : {"dog", "cat", "cat/more", ".hidden"}) {
      std::filesystem::create_directory(scratch / name);
    }
    test::write_bytes(scratch / "dog/1.png", png_of_colour(4, 6, 10, 20, 30));
    test::write_bytes(scratch / "cat/b.jpg", jpeg_of_colour(8, 77));
    test::write_bytes(scratch / "cat/more/a.PNG", png_of_colour(1, 1, 1, 2, 3));
    test::write_bytes(scratch / "cat/.DS_Store", "not an image");
    test::write_bytes(scratch / "readme.txt", "not an image");
  }
  /// The error of opening it, with `bytes` in the file cat/x.
  std::string error_with(const std::string& bytes) const {
    const std::string path = scratch / "cat/x";
    test::write_bytes(path, bytes);
    const std::string text = test::data_error_of([&] { open_image_set(scratch.path().string()); });
    CHECK_MESSAGE(text.starts_with(path + ": "), text);
    return text.substr(std::min(text.size(), path.size() + 2));
  }
  test::Scratch scratch;
};

}  // namespace

TEST_CASE("classes and files are in byte order, and keep kind and size") {
  const Folder folder;
  const auto images = open_image_set(folder.scratch.path().string());
  REQUIRE(images->size() == 3);
  CHECK(images->format() == "folder");
  CHECK(images->classes() == std::vector<std::string>{"cat", "dog"});
  CHECK_FALSE(images->shape());
  CHECK(images->name(0) == std::string(folder.scratch / "cat/b.jpg"));
  CHECK(images->name(1) == std::string(folder.scratch / "cat/more/a.PNG"));
  CHECK(images->label(1) == 0);
  CHECK(images->label(2) == 1);
  CHECK(images->shape_of(0) == ImageShape{1, 8, 8});
  for (int i = 0; i < 3; ++i) CHECK(images->read(i).shape() == images->shape_of(i));
  CHECK(images->read(2).shape() == ImageShape{3, 6, 4});
  CHECK(images->read(1).pixels == std::vector<std::uint8_t>{1, 2, 3});
  const auto bytes = images->encoded(1);
  CHECK(std::string(bytes.begin(), bytes.end()) == png_of_colour(1, 1, 1, 2, 3));
  std::filesystem::remove_all(folder.scratch / "cat/more");
  std::filesystem::remove(folder.scratch / "cat/b.jpg");
  test::write_bytes(folder.scratch / "cat/c.png", png_of_colour(4, 6, 0, 0, 0));
  CHECK(open_image_set(folder.scratch.path().string())->shape() == ImageShape{3, 6, 4});
}

TEST_CASE("a file that is no whole image is named before anything is trained on") {
  const Folder folder;
  const std::string png = png_of_colour(40, 30, 1, 2, 3);
  const std::string jpeg = jpeg_of_colour(40, 9);
  CHECK(folder.error_with("") == "empty");
  CHECK(folder.error_with("text") == "neither PNG nor JPEG");
  for (const std::string& file : {png, jpeg}) {
    for (const std::size_t size : {4UL, 9UL, 30UL, file.size() / 2, file.size() - 1}) {
      folder.error_with(file.substr(0, size));
    }
  }
  CHECK(folder.error_with(png.substr(0, png.size() - 1)).starts_with("truncated"));
  CHECK(folder.error_with(jpeg.substr(0, jpeg.size() - 2)) == "truncated, it lacks its end");
  std::string damaged = png;
  damaged[60] = static_cast<char>(damaged[60] ^ 1);
  CHECK(folder.error_with(damaged).starts_with("damaged PNG"));
  test::write_bytes(folder.scratch / "cat/x", jpeg + std::string(10000, 'x'));  // harmless
  CHECK(open_image_set(folder.scratch.path().string())->size() == 4);
}

TEST_CASE("folders that are no set are refused") {
  const test::Scratch scratch;
  const auto error = [&](const std::string& path) {
    return test::data_error_of([&] { open_image_set(path); });
  };
  CHECK(error(scratch.path()) == scratch.path().string() +
                                     ": neither a folder for each class nor a set of images is in "
                                     "this folder");
  std::filesystem::create_directory(scratch / "a");
  CHECK(error(scratch.path()) == std::string(scratch / "a") + ": no image is in this class");
  test::write_bytes(scratch / "a/one.png", png_of_colour(4, 4, 1, 1, 1));
  std::filesystem::create_directory(scratch / "b\xff");
  test::write_bytes(scratch / "b\xff/one.png", png_of_colour(4, 4, 1, 1, 1));
  CHECK(error(scratch.path()) == scratch.path().string() + ": the name of class 1 is not UTF-8");
  std::filesystem::rename(scratch / "b\xff", scratch / "b\nc");
  CHECK(error(scratch.path()) == scratch.path().string() + ": the name of class 1 has a line end");
  std::filesystem::remove_all(scratch.path());
  std::filesystem::create_directory(scratch.path());
  test::write_bytes(scratch / "one.png", png_of_colour(4, 4, 1, 1, 1));
  CHECK(error(scratch / "one.png")
            .ends_with("is one image; a set has a folder of them for each class"));
}

TEST_CASE("probing finds the frame behind other segments") {
  const test::Scratch scratch;
  const std::string plain = jpeg_of_colour(24, 5);
  std::string segment = "\xff\xe1";
  segment += std::string("\x13\x88", 2) + std::string(5000 - 2, '\xd9');  // 0x1388 = 5000
  test::write_bytes(scratch / "a", plain.substr(0, 2) + segment + "\xff" + plain.substr(2));
  CHECK(probe_image_file(scratch / "a") == ImageShape{1, 24, 24});
}

}  // namespace hew
