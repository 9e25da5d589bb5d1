#include "data/image_pack.h"

#include <doctest/doctest.h>

#include "core/error.h"
#include "data/image_codec.h"
#include "data/image_resize.h"
#include "io/hdf5.h"
#include "tests/data/sample_images.h"
#include "tests/io/scratch.h"

namespace hew {
namespace {

bool has(const std::string& text, const std::string& part) {
  if (text.find(part) == std::string::npos)
    MESSAGE(text);
  return text.find(part) != std::string::npos;
}

void check_same(const ImageSet& a, const ImageSet& b) {
  REQUIRE(a.size() == b.size());
  CHECK(a.classes() == b.classes());
  CHECK(a.shape() == b.shape());
  for (std::int64_t i = 0; i < a.size(); ++i) {
    CHECK(a.label(i) == b.label(i));
    CHECK(a.shape_of(i) == b.shape_of(i));
    CHECK(a.read(i).shape() == b.read(i).shape());
    CHECK(a.read(i).pixels == b.read(i).pixels);
    CHECK(a.encoded(i) == b.encoded(i));
  }
}

/// Two classes of PNG files of various sizes.
std::string write_folder(const test::Scratch& scratch) {
  const std::filesystem::path folder = scratch / "set";
  std::filesystem::create_directories(folder / "cat");
  std::filesystem::create_directories(folder / "dog");
  for (int i = 0; i < 7; ++i) {
    test::write_bytes(folder / (i % 2 == 0 ? "cat" : "dog") / std::to_string(i),
                      test::png_of_colour(5 + 3 * i, 20 - i, 10 * i, 20 * i, 30));
  }
  return folder;
}

ImagePackOptions options_for(const test::Scratch& scratch, const std::string& input) {
  return {.inputs = {input}, .output = scratch / "out.h5"};
}

}  // namespace

TEST_CASE("a pack of pixels has what it was made of, and the same bytes every time") {
  const test::Scratch scratch;
  for (const std::uint32_t count : {1U, 3U, 300U}) {
    const std::string idx = test::write_idx_pair(scratch.path(), count, 5, 7);
    ImagePackOptions options = options_for(scratch, idx);
    options.force = true;
    const ImagePackResult result = write_image_pack(options);
    CHECK(result.images == count);
    CHECK(result.bytes == count * 35);
    CHECK(result.encoding == "pixels");
    const auto pack = open_image_set(options.output);
    CHECK(pack->format() == "hew-h5");
    CHECK(pack->name(0) == options.output + ": image 0");
    check_same(*pack, *open_image_set(idx));
    check_same(*open_image_pack(options.output, /*in_memory=*/0), *pack);
    const std::string bytes = test::read_bytes(options.output);
    write_image_pack(options);
    CHECK(test::read_bytes(options.output) == bytes);
    options.inputs = {options.output};  // a pack of a pack
    options.output = scratch / "again.h5";
    write_image_pack(options);
    CHECK(test::read_bytes(options.output) == bytes);
  }
}

TEST_CASE("classes can be given names") {
  const test::Scratch scratch;
  ImagePackOptions options = options_for(scratch, test::write_idx_pair(scratch.path(), 3, 2, 2));
  options.classes_file = scratch / "names.txt";
  test::write_bytes(options.classes_file, "T-shirt/top\r\nTrouser\nPullover\nDress\n");
  write_image_pack(options);
  CHECK(open_image_set(options.output)->classes() ==
        std::vector<std::string>{"T-shirt/top", "Trouser", "Pullover", "Dress"});
  options.force = true;
  const auto error = [&](const std::string& names) {
    test::write_bytes(options.classes_file, names);
    return test::data_error_of([&] { write_image_pack(options); });
  };
  CHECK(has(error("a\nb\n"), "names.txt: 2 names, the images have 3 classes"));
  CHECK(has(error("a\nb\nc\nb\n"), "names.txt:4: b a second time"));
  CHECK(has(error("a\n\nb\n"), "names.txt:2: no name"));
  options.classes_file = scratch / "nothing";
  CHECK(has(test::data_error_of([&] { write_image_pack(options); }), "nothing: cannot be read"));
}

TEST_CASE("files stay as they are, or become pixels or JPEG files of a size") {
  const test::Scratch scratch;
  const std::string folder = write_folder(scratch);
  try {
    open_image_set(folder);
  } catch (const BackendError&) {
    MESSAGE("skipped: this build reads no PNG");
    return;
  }
  ImagePackOptions options = options_for(scratch, folder);
  const auto folder_set = open_image_set(folder);
  options.classes_file = scratch / "names.txt";
  test::write_bytes(options.classes_file, "cat\ndog\nbird\n");
  CHECK(has(test::data_error_of([&] { write_image_pack(options); }),
            "names.txt: 3 names, the images have 2 classes"));
  options.classes_file.clear();
  CHECK(write_image_pack(options).encoding == "files");
  check_same(*open_image_set(options.output), *folder_set);

  options.force = true;
  options.size = 9;
  CHECK(write_image_pack(options).encoding == "pixels");
  const auto small = open_image_set(options.output);
  for (std::int64_t i = 0; i < small->size(); ++i) {
    const DecodedImage image = folder_set->read(i);
    const bool shrinks = std::min(image.height, image.width) > 9;
    CHECK(small->read(i).pixels == (shrinks ? resize_shorter_side(image, 9).pixels : image.pixels));
    CHECK(small->encoded(i).empty());
  }
  options.square = true;
  write_image_pack(options);
  CHECK(open_image_set(options.output)->shape() == ImageShape{3, 9, 9});
  options.quality = 90;
  CHECK(write_image_pack(options).encoding == "files");
  const auto jpeg = open_image_set(options.output);
  CHECK(jpeg->shape() == ImageShape{3, 9, 9});
  CHECK(image_format(jpeg->encoded(0)) == ImageFormat::kJpeg);
  CHECK(std::abs(jpeg->read(3).pixels[0] - folder_set->read(3).pixels[0]) <= 3);
}

TEST_CASE("options that do not fit are refused, and nothing is left of a failure") {
  const test::Scratch scratch;
  const std::string idx = test::write_idx_pair(scratch.path(), 3, 2, 2);
  const auto refuses = [&](auto change) {
    ImagePackOptions options = options_for(scratch, idx);
    change(options);
    const auto before = scratch.list();
    CHECK_THROWS_AS(write_image_pack(options), ConfigError);
    CHECK(scratch.list() == before);
  };
  refuses([](auto& o) { o.size = -1; });
  refuses([](auto& o) { o.square = true; });
  refuses([](auto& o) { o.quality = 101; });
  refuses([&](auto& o) { o.output = idx; });
  test::write_bytes(scratch / "out.h5", "precious");
  refuses([](auto&) {});
  ImagePackOptions options = options_for(scratch, write_folder(scratch));
  options.force = true;
  const std::string bad = scratch / "set/dog/x";
  test::write_bytes(bad, "text");
  CHECK(
      has(test::data_error_of([&] { write_image_pack(options); }), bad + ": neither PNG nor JPEG"));
  CHECK(test::read_bytes(options.output) == "precious");
}

TEST_CASE("packs that are not right are refused by name") {
  const test::Scratch scratch;
  const std::string path = scratch / "bad.h5";
  struct Parts {
    std::vector<std::int32_t> labels = {0, 1};
    std::vector<std::int64_t> offsets = {0, 4, 8};
    std::vector<std::int32_t> shapes = {2, 2, 1, 2, 2, 1};
    std::vector<std::uint8_t> data = std::vector<std::uint8_t>(8);
    std::string encoding = "pixels";
  };
  const auto error = [&](auto change) {
    Parts parts;
    change(parts);
    H5Writer file(path, kImagePackKind, kImagePackVersion);
    file.attribute("/", "encoding", parts.encoding);
    file.write("labels", parts.labels);
    file.write("offsets", parts.offsets);
    file.write("shapes", parts.shapes);
    file.write("data", parts.data);
    file.write("classes", std::vector<std::uint8_t>{'a', '\n', 'b', '\n'});
    file.commit();
    const std::string text = test::data_error_of([&] { open_image_set(path)->read(1); });
    CHECK((text.empty() || text.starts_with(path + ": ")));
    return text;
  };
  CHECK(error([](auto&) {}).empty());
  CHECK(has(error([](auto& p) { p.labels[1] = 2; }), "image 1 has label 2 of 2 classes"));
  CHECK(has(error([](auto& p) { p.labels.clear(); }), "holds no images"));
  CHECK(has(error([](auto& p) { p.offsets[1] = 5; }), "image 0 has 5 bytes"));
  CHECK(has(error([](auto& p) { p.offsets[2] = 9; }), "do not fit each other"));
  CHECK(has(error([](auto& p) { p.data.pop_back(); }), "do not fit each other"));
  CHECK(has(error([](auto& p) { p.shapes[5] = 4; }), "image 1 has shape 2 x 2 x 4"));
  CHECK(has(error([](auto& p) { p.encoding = "zip"; }), "kept as 'zip'"));
  CHECK(has(error([](auto& p) { p.encoding = "files"; }), "image 1: neither PNG nor JPEG"));
  std::string bytes = test::read_bytes(path);
  bytes[700] = static_cast<char>(bytes[700] ^ 1);
  test::write_bytes(path, bytes);
  CHECK(has(test::data_error_of([&] { open_image_set(path); }), "damaged"));
  { H5Writer(path, "corpus", 1).commit(); }
  CHECK(
      has(test::data_error_of([&] { open_image_set(path); }), "holds 'corpus', expected 'images'"));
}

}  // namespace hew
