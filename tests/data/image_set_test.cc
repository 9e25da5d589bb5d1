#include "data/image_set.h"

#include <doctest/doctest.h>

#include <array>

#include "core/error.h"
#include "io/hdf5.h"
#include "tests/data/sample_images.h"
#include "tests/io/scratch.h"

namespace hew {
namespace {

using test::gzipped;
using test::idx_bytes;
using test::Scratch;

/// The error of opening; one line that begins with the path.
std::string error_of(const std::string& path) {
  const std::string text = test::data_error_of([&] { open_image_set(path); });
  CHECK_MESSAGE(text.starts_with(path + ": "), path << " gives " << text);
  CHECK(text.find('\n') == std::string::npos);
  return text;
}

bool has(const std::string& text, const std::string& part) {
  if (text.find(part) == std::string::npos)
    MESSAGE(text);
  return text.find(part) != std::string::npos;
}

/// A CIFAR record whose plane c has pixel p = (40 c + p + first label) mod 256.
std::string cifar_record(const std::string& labels) {
  std::string record = labels;
  for (int c = 0; c < 3; ++c) {
    for (int p = 0; p < 1024; ++p) record += static_cast<char>((40 * c + p + labels[0]) % 256);
  }
  return record;
}

}  // namespace

TEST_CASE("IDX files: pixels and labels, plain and gzipped, by file and by folder") {
  for (const auto& [count, height, width] : {std::array{1U, 1U, 1U}, {3U, 2U, 5U}, {13U, 7U, 7U}}) {
    const Scratch scratch;
    const std::string path = test::write_idx_pair(scratch.path(), count, height, width);
    const auto check = [&](const std::string& name) {
      const auto images = open_image_set(name);
      REQUIRE(images->size() == count);
      CHECK(images->format() == "idx");
      CHECK(images->shape() == ImageShape{1, height, width});
      CHECK(std::ssize(images->classes()) == std::min(count, 10U));
      for (std::uint32_t i = 0; i < count; ++i) {
        const DecodedImage image = images->read(i);
        CHECK(images->label(i) == i % 10);
        CHECK(image.shape() == ImageShape{1, height, width});
        REQUIRE(image.pixels.size() == height * width);
        for (std::uint32_t p = 0; p < height * width; ++p) {
          REQUIRE(image.pixels[p] == (7 * i + p) % 251);
        }
        CHECK(images->encoded(i).empty());
      }
    };
    check(path);
    check(scratch.path());
    test::write_bytes(path + ".gz", gzipped(test::read_bytes(path)));
    std::filesystem::remove(path);
    check(path + ".gz");  // its labels are not gzipped
    const std::string labels = scratch / "train-labels-idx1-ubyte";
    test::write_bytes(labels + ".gz", gzipped(test::read_bytes(labels)));
    std::filesystem::remove(labels);
    check(path + ".gz");
    check(scratch.path());
  }
}

TEST_CASE("IDX files that are not right are refused by name") {
  const Scratch scratch;
  const std::string path = test::write_idx_pair(scratch.path(), 5, 3, 3);
  const std::string labels = scratch / "train-labels-idx1-ubyte";
  const std::string good = test::read_bytes(path);
  const std::string good_labels = test::read_bytes(labels);
  const auto with = [&](const std::string& bytes) {
    test::write_bytes(path, bytes);
    return error_of(path);
  };
  CHECK(has(with(""), "empty"));
  CHECK(has(with(good.substr(0, 9)), "truncated header"));
  CHECK(has(with(good.substr(0, good.size() - 1)), "truncated, 44 of 45"));
  CHECK(has(with(good + "x"), "goes on after the 45 bytes"));
  CHECK(has(with(idx_bytes({0, 3, 3}, "")), "dimension 0 is 0"));
  CHECK(has(with(idx_bytes({1U << 31U, 1U << 31U, 9}, "")), "asks for too much"));
  CHECK(has(with(idx_bytes({1U << 20U, 1U << 10U, 9}, "abc")), "truncated, 3 of"));
  CHECK(has(with(idx_bytes({4, 3, 3}, std::string(36, 'x'))), "4 images, but 5 labels"));
  CHECK(has(with("some text that is longer"), "not a set of images"));
  const std::string packed = gzipped(good);
  CHECK(has(with(packed.substr(0, packed.size() / 2)), "truncated inside of its gzip data"));
  std::string damaged = packed;
  damaged[damaged.size() - 6] = static_cast<char>(damaged[damaged.size() - 6] + 1);  // the CRC
  CHECK(has(with(damaged), "damaged gzip data"));
  test::write_bytes(path, good);
  CHECK(has(error_of(labels), "holds labels"));
  test::write_bytes(labels, good_labels.substr(0, 10));
  CHECK(test::data_error_of([&] { open_image_set(path); }) ==
        labels + ": truncated, 2 of 5 bytes of content are there");
  std::filesystem::remove(labels);
  CHECK(has(error_of(path), "there is no train-labels-idx1-ubyte"));
  test::write_bytes(scratch / "other", good);
  CHECK(has(error_of(scratch / "other"), "lacks 'images'"));
  CHECK(has(error_of(scratch / "nothing"), "no such file"));
}

TEST_CASE("CIFAR batches, with and without the names of their classes") {
  const Scratch scratch;
  const std::string path = scratch / "data_batch_1.bin";
  test::write_bytes(path, cifar_record("\3") + cifar_record("\7") + cifar_record("\3"));
  const auto images = open_image_set(path);
  REQUIRE(images->size() == 3);
  CHECK(images->format() == "cifar10");
  CHECK(images->shape() == ImageShape{3, 32, 32});
  CHECK(images->label(1) == 7);
  CHECK(images->classes().size() == 10);
  CHECK(images->classes()[7] == "7");
  const DecodedImage image = images->read(1);
  for (int p = 0; p < 1024; ++p) {
    for (int c = 0; c < 3; ++c) {
      REQUIRE(image.pixels[static_cast<std::size_t>(3 * p + c)] == (40 * c + p + 7) % 256);
    }
  }
  test::write_bytes(scratch / "batches.meta.txt", "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n\n");
  CHECK(open_image_set(path)->classes()[7] == "h");

  const std::string fine = scratch / "train.bin";
  test::write_bytes(fine, cifar_record({19, 99}) + cifar_record({0, 42}));
  const auto hundred = open_image_set(fine);
  CHECK(hundred->format() == "cifar100");
  CHECK(hundred->classes().size() == 100);
  CHECK(hundred->label(0) == 99);
  CHECK(hundred->label(1) == 42);
  CHECK(hundred->read(1).pixels[3] == 1);
}

TEST_CASE("a folder's batches are one set, and testing is told from training") {
  const Scratch scratch;
  test::write_bytes(scratch / "data_batch_1.bin", cifar_record("\1") + cifar_record("\2"));
  test::write_bytes(scratch / "data_batch_2.bin", cifar_record("\3"));
  test::write_bytes(scratch / "readme.html", "text");
  for (const std::string& name : {scratch.path().string(), std::string(scratch / "data_*.bin")}) {
    const auto images = open_image_set(name);
    REQUIRE(images->size() == 3);
    for (int i = 0; i < 3; ++i) CHECK(images->label(i) == i + 1);
    CHECK(images->shape() == ImageShape{3, 32, 32});
    CHECK(images->name(2) == std::string(scratch / "data_batch_2.bin") + ": image 0");
    CHECK(images->read(2).pixels[0] == 3);
  }
  test::write_bytes(scratch / "test_batch.bin", cifar_record("\4"));
  CHECK(has(error_of(scratch.path()),
            "name one of data_batch_1.bin, data_batch_2.bin, test_batch.bin"));
  CHECK(open_image_set(scratch / "test_batch.bin")->size() == 1);
}

TEST_CASE("CIFAR files that are not right are refused by name") {
  const Scratch scratch;
  const std::string path = scratch / "a.bin";
  const auto with = [&](const std::string& bytes) {
    test::write_bytes(path, bytes);
    return error_of(path);
  };
  CHECK(has(with(""), "empty"));
  CHECK(has(with(cifar_record("\1").substr(1)), "3072 bytes are no whole number of records"));
  CHECK(has(with(cifar_record("\1") + cifar_record({10})), "record 1 has a label that cifar10"));
  CHECK(has(with(cifar_record({0, 100})), "record 0 has a label that cifar100"));
  CHECK(has(error_of(scratch.path()), "neither a folder for each class nor a set"));
}

TEST_CASE("several sets are one after another, if their classes are the same") {
  const Scratch scratch;
  std::filesystem::create_directory(scratch / "idx");
  const std::string idx = test::write_idx_pair(scratch / "idx", 3, 32, 32);
  test::write_bytes(scratch / "a.bin", cifar_record("\5"));
  const std::vector<std::string> both = {scratch / "a.bin", idx};
  const auto images = open_image_set(both);
  CHECK(images->size() == 4);
  CHECK(images->format() == "several");
  CHECK_FALSE(images->shape());
  CHECK(images->classes().size() == 10);
  CHECK(images->label(0) == 5);
  CHECK(images->label(3) == 2);
  CHECK(images->read(3).channels == 1);
  test::write_bytes(scratch / "batches.meta.txt", "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n");
  CHECK(has(test::data_error_of([&] { open_image_set(both); }),
            idx + ": its classes are not those of"));
}

TEST_CASE("a digest tells sets of images apart by number, labels and pixels") {
  const Scratch scratch;
  const auto digest_of_idx = [&](std::uint32_t count, std::uint32_t size) {
    return digest_of(*open_image_set(test::write_idx_pair(scratch.path(), count, size, size)));
  };
  const std::string digest = digest_of_idx(40, 3);
  CHECK(digest.size() == 64);
  CHECK(digest_of_idx(40, 3) == digest);
  CHECK(digest_of_idx(39, 3) != digest);
  CHECK(digest_of_idx(40, 4) != digest);
  const auto of_record = [&](const std::string& label) {
    test::write_bytes(scratch / "a.bin", cifar_record(label));
    return digest_of(*open_image_set(scratch / "a.bin"));
  };
  CHECK(of_record("\5") != of_record("\6"));
}

TEST_CASE("sets of images are told from corpora") {
  const Scratch scratch;
  CHECK(names_image_set(test::write_idx_pair(scratch.path(), 2, 3, 3)));
  CHECK(names_image_set(scratch.path()));
  test::write_bytes(scratch / "a.bin", cifar_record("\5"));
  CHECK(names_image_set(scratch / "*.bin"));
  test::write_bytes(scratch / "a.bin", cifar_record("\x50"));
  CHECK_FALSE(names_image_set(scratch / "a.bin"));
  { H5Writer(scratch / "a.h5", "corpus", 1).commit(); }
  CHECK_FALSE(names_image_set(scratch / "a.h5"));
  CHECK_THROWS_AS(names_image_set(scratch / "nothing"), DataError);
}

TEST_CASE("Debian's Fashion-MNIST") {
  const std::string path = test::fashion_mnist("t10k-images-idx3-ubyte.gz");
  if (path.empty())
    return;
  const auto images = open_image_set(path);
  REQUIRE(images->size() == 10000);
  CHECK(images->shape() == ImageShape{1, 28, 28});
  CHECK(images->classes().size() == 10);
  std::array<int, 10> counts{};
  for (std::int64_t i = 0; i < images->size(); ++i) {
    ++counts[static_cast<std::size_t>(images->label(i))];
  }
  for (const int count : counts) CHECK(count == 1000);
  CHECK(images->label(0) == 9);  // an ankle boot comes first
  const std::string folder = std::filesystem::path(path).parent_path();
  CHECK(has(error_of(folder), "t10k-images-idx3-ubyte.gz, train-images-idx3-ubyte.gz"));
}

}  // namespace hew
