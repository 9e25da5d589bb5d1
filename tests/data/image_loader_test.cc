#include "data/image_loader.h"

#include <doctest/doctest.h>

#include <cmath>
#include <map>
#include <numeric>

#include "core/error.h"
#include "data/image_mix.h"
#include "data/raw_images.h"
#include "data/shuffle.h"
#include "tests/io/scratch.h"

namespace hew {
namespace {

using Rows = std::map<std::int64_t, std::vector<float>>;  // image, then targets, by global index

/// Images whose pixels are all their number, label number mod 5.
std::shared_ptr<const ImageSet> counting_images(std::int64_t count, std::int64_t side = 4) {
  std::vector<std::uint8_t> pixels;
  std::vector<std::int32_t> labels;
  for (std::int64_t i = 0; i < count; ++i) {
    pixels.insert(pixels.end(), static_cast<std::size_t>(side * side),
                  static_cast<std::uint8_t>(i));
    labels.push_back(static_cast<std::int32_t>(i % 5));
  }
  return std::make_shared<RawImages>(
      ImageSet::Info{.path = "counting", .classes = numbered_classes({}, 5)},
      ImageShape{1, side, side}, std::move(pixels), std::move(labels));
}

ImageLoaderArgs loader_args(std::shared_ptr<const ImageSet> images) {
  ImageLoaderArgs args{.images = std::move(images),
                       .transform = {.size = 4, .channels = 1, .mean = {0}, .std = {1}},
                       .stream = make_cpu_stream()};
  args.classes = 5;
  args.seed = 3;
  args.global_batch = 8;
  args.micro_batch = 2;
  args.threads = 3;
  return args;
}

void collect(const std::vector<ImageBatch>& batches, Rows& rows) {
  for (const ImageBatch& batch : batches) {
    const auto images = batch.images.to_vector<float>();
    const auto targets = batch.targets.to_vector<float>();
    const std::int64_t count = batch.images.size(0);
    REQUIRE(batch.targets.size(0) == count);
    const std::int64_t width = batch.images.numel() / count;
    const std::int64_t classes = batch.targets.size(1);
    for (std::int64_t i = 0; i < count; ++i) {
      std::vector<float> row(images.begin() + i * width, images.begin() + (i + 1) * width);
      row.insert(row.end(), targets.begin() + i * classes, targets.begin() + (i + 1) * classes);
      REQUIRE(rows.emplace(batch.first_sample + i, std::move(row)).second);
    }
  }
}

Rows run_ranks(const ImageLoaderArgs& args, int world, int steps) {
  Rows rows;
  for (int rank = 0; rank < world; ++rank) {
    ImageLoaderArgs mine = args;
    mine.ranks = {rank, world};
    ImageLoader loader(mine);
    for (int step = 0; step < steps; ++step) collect(loader.next(), rows);
  }
  return rows;
}

/// Images of which one cannot be read.
class OneIsBroken final : public ImageSet {
 public:
  explicit OneIsBroken(std::shared_ptr<const ImageSet> images, std::int64_t broken)
      : ImageSet({.path = "set", .classes = images->classes()}),
        images_(std::move(images)),
        broken_(broken) {}
  std::int64_t size() const override { return images_->size(); }
  std::int64_t label(std::int64_t i) const override { return images_->label(i); }
  ImageShape shape_of(std::int64_t i) const override { return images_->shape_of(i); }
  std::string name(std::int64_t i) const override { return "set/" + std::to_string(i); }
  DecodedImage read(std::int64_t i) const override {
    require<DataError>(i != broken_, "{}: broken", name(i));
    return images_->read(i);
  }

 private:
  std::shared_ptr<const ImageSet> images_;
  std::int64_t broken_;
};

}  // namespace

TEST_CASE("an epoch has every image once, with its label, in the order of the shuffle") {
  for (const std::int64_t count : {1, 7, 11}) {
    ImageLoaderArgs args = loader_args(counting_images(count));
    args.global_batch = 2;
    args.micro_batch = 1;
    const Rows rows = run_ranks(args, 1, static_cast<int>(count));
    REQUIRE(std::ssize(rows) == 2 * count);
    for (const auto& [position, row] : rows) {
      const std::int64_t image = shuffled(args.seed, position / count, count, position % count);
      CHECK(row.front() == static_cast<float>(image) / 255.0F);
      CHECK(row[16 + static_cast<std::size_t>(image % 5)] == 1);
      CHECK(std::accumulate(row.begin() + 16, row.end(), 0.0F) == 1);
    }
  }
}

TEST_CASE("any number of ranks, threads and micro-batches sees one stream") {
  const ImageLoaderArgs args = loader_args(counting_images(11));
  const Rows alone = run_ranks(args, 1, 3);
  CHECK(alone.size() == 24);
  CHECK(alone.rbegin()->first == 23);
  for (const int world : {1, 2, 4}) {
    for (const std::int64_t micro : {1, 2}) {
      for (const int threads : {1, 2, 5}) {
        ImageLoaderArgs other = args;
        other.micro_batch = micro;
        other.threads = threads;
        CHECK(run_ranks(other, world, 3) == alone);
      }
    }
  }
  ImageLoaderArgs other = args;
  other.seed = 4;
  CHECK(run_ranks(other, 1, 3) != alone);
}

TEST_CASE("a loader goes on in the middle of an epoch as if nothing had happened") {
  ImageLoader loader(loader_args(counting_images(13)));
  loader.next();
  loader.next();
  CHECK(loader.position() == 16);
  Rows expected;
  collect(loader.next(), expected);
  ImageLoaderArgs args = loader_args(counting_images(13));
  args.position = 16;
  ImageLoader resumed(args);
  Rows rows;
  collect(resumed.next(), rows);
  CHECK(rows == expected);
  rows.clear();
  loader.seek(16);
  collect(loader.next(), rows);
  CHECK(rows == expected);
}

TEST_CASE("with all changes on, ranks, threads and micro-batches still see one stream") {
  ImageLoaderArgs args = loader_args(counting_images(11, 9));
  ImageTransformConfig& config = args.transform;
  config = {.size = 8, .channels = 3};
  config.crop = ImageCrop::kRandomResized;
  config.pad = 1;
  config.flip = true;
  config.rand_augment = {.ops = 2, .magnitude = 9};
  config.erase = 0.5;
  config.mixup = 0.8;
  config.cutmix = 1;
  for (const std::int64_t repeats : {1, 4}) {
    config.repeats = repeats;
    const Rows alone = run_ranks(args, 1, 4);
    for (const int world : {2, 4}) {
      ImageLoaderArgs other = args;
      other.threads = world;
      other.micro_batch = 1;
      CHECK(run_ranks(other, world, 4) == alone);
    }
    ImageLoaderArgs later = args;
    later.position = 16;
    Rows rest = alone;
    rest.erase(rest.begin(), rest.find(16));
    CHECK(run_ranks(later, 1, 2) == rest);
    config.mixup = config.cutmix = 0;
    CHECK(run_ranks(args, 1, 4) != alone);
    config.mixup = 0.8;
  }
}

TEST_CASE("mixing is with the sample in front, across ranks") {
  ImageLoaderArgs args = loader_args(counting_images(32));
  const Rows plain = run_ranks(args, 1, 3);
  args.transform.mixup = 0.5;
  for (const int world : {1, 2, 4}) {
    const Rows mixed = run_ranks(args, world, 3);
    for (const auto& [position, row] : mixed) {
      const std::int64_t first = position / 8 * 8;
      const std::int64_t partner = first + (position - first + 7) % 8;
      const auto own = static_cast<float>(draw_mix(args.transform, {args.seed, first}).own);
      for (std::size_t i = 0; i < row.size(); ++i) {
        const float expected = own * plain.at(position)[i] + (1 - own) * plain.at(partner)[i];
        CHECK(std::abs(row[i] - expected) <= 1e-6F);
      }
    }
  }
  args.global_batch = args.micro_batch = 1;  // an image is its own partner
  for (const auto& [position, row] : run_ranks(args, 1, 5)) {
    const auto image = shuffled(args.seed, 0, 32, position);
    CHECK(std::abs(row[0] - static_cast<float>(image) / 255.0F) <= 1e-6F);
  }
}

TEST_CASE("repeats: each image so often in a batch, and changed each time by itself") {
  ImageLoaderArgs args = loader_args(counting_images(16));
  args.transform.repeats = 2;
  std::map<float, int> counts;
  for (const auto& [position, row] : run_ranks(args, 2, 4)) {
    const std::int64_t different = position / 8 * 4 + position % 4;
    CHECK(row[0] == static_cast<float>(shuffled(args.seed, 0, 16, different)) / 255.0F);
    ++counts[row[0]];
  }
  CHECK(counts.size() == 16);  // an epoch of 16 images takes 32 samples
  for (const auto& [pixel, count] : counts) CHECK(count == 2);
  args.transform.pad = 4;
  const Rows moved = run_ranks(args, 1, 8);
  int equal = 0;
  for (std::int64_t position = 0; position < 64; position += 8) {
    for (std::int64_t i = 0; i < 4; ++i)
      equal += moved.at(position + i) == moved.at(position + i + 4);
  }
  CHECK(equal < 8);
}

TEST_CASE("what threads fail with comes out of next(), as often as it is asked") {
  ImageLoaderArgs args = loader_args(counting_images(13));
  const std::int64_t broken = shuffled(args.seed, 1, 13, 21 - 13);
  args.images = std::make_shared<OneIsBroken>(args.images, broken);
  args.position = 13;  // where an epoch begins
  ImageLoader loader(args);
  CHECK(test::data_error_of([&] {
          for (int i = 0; i < 3; ++i) loader.next();
        }) == "set/" + std::to_string(broken) + ": broken");
  CHECK(loader.position() == 21);
  CHECK_THROWS_AS(loader.next(), DataError);
  loader.seek(13);
  CHECK_NOTHROW(loader.next());
  CHECK_THROWS_AS(loader.next(), DataError);
  args.images = counting_images(9);
  args.transform.size = 5;
  const std::string text = test::data_error_of([&] { ImageLoader{args}; });
  CHECK_MESSAGE(text.starts_with("counting: image 0: "), text);
  CHECK_MESSAGE(text.find("4 x 4 pixels, expected 5 x 5") != std::string::npos, text);
}

TEST_CASE("arguments that do not fit are refused") {
  const auto refuses = [&](auto change) {
    ImageLoaderArgs args = loader_args(counting_images(13));
    change(args);
    CHECK_THROWS_AS(ImageLoader{args}, ConfigError);
  };
  refuses([](auto& a) { a.global_batch = 7; });
  refuses([](auto& a) { a.micro_batch = 0; });
  refuses([](auto& a) { a.position = -1; });
  refuses([](auto& a) { a.transform.repeats = 3; });
  refuses([](auto& a) {
    a.transform.repeats = 4;
    a.position = 6;
  });
  refuses([](auto& a) { a.ranks = {2, 2}; });
  refuses([](auto& a) { a.transform.size = 0; });
  refuses([](auto& a) { a.transform.channels = 2; });
  refuses([](auto& a) { a.transform.mean = {0.1, 0.2}; });
  refuses([](auto& a) { a.transform.std = {0.0}; });
  refuses([](auto& a) { a.transform.erase = 1.5; });
  ImageLoaderArgs args = loader_args(counting_images(13));
  args.classes = 4;
  CHECK_THROWS_AS(ImageLoader{args}, DataError);
}

TEST_CASE("evaluation sees every image once, on any number of ranks") {
  for (const int world : {1, 2, 4, 16}) {
    std::vector<float> seen;
    for (int rank = 0; rank < world; ++rank) {
      SequentialImages images({.images = counting_images(11),
                               .transform = loader_args(nullptr).transform,
                               .stream = make_cpu_stream(),
                               .micro_batch = 2,
                               .ranks = {rank, world},
                               .threads = 2});
      CHECK(images.total() == 11);
      CHECK(images.rounds() == (world == 1 ? 6 : world == 2 ? 3 : world == 4 ? 2 : 1));
      while (const auto batch = images.next()) {
        CHECK(batch->first == std::ssize(seen));
        const auto values = batch->images.to_vector<float>();
        const auto labels = batch->labels.to_vector<std::int32_t>();
        REQUIRE(labels.size() * 16 == values.size());
        for (std::size_t i = 0; i < labels.size(); ++i) {
          CHECK(labels[i] == std::ssize(seen) % 5);
          seen.push_back(values[16 * i]);
        }
      }
      CHECK_FALSE(images.next());
    }
    REQUIRE(seen.size() == 11);
    for (std::size_t i = 0; i < 11; ++i) CHECK(seen[i] == static_cast<float>(i) / 255.0F);
  }
  SequentialImages some({.images = counting_images(11),
                         .transform = loader_args(nullptr).transform,
                         .stream = make_cpu_stream(),
                         .micro_batch = 4,
                         .ranks = {},
                         .max_images = 5});
  CHECK(some.total() == 5);
  CHECK(some.next()->images.size(0) == 4);
  CHECK(some.next()->images.size(0) == 1);
  CHECK_FALSE(some.next());
}

}  // namespace hew
