#include "data/loader.h"

#include <doctest/doctest.h>

#include <map>
#include <numeric>
#include <set>

#include "core/error.h"
#include "tests/io/scratch.h"

namespace hew {
namespace {

using Row = std::vector<std::int32_t>;

/// A corpus of the tokens 0, 1, 2, … so that a window shows where it lies.
struct Counting {
  Counting(std::int64_t tokens, std::int64_t context) {
    std::vector<std::uint16_t> values(static_cast<std::size_t>(tokens));
    std::iota(values.begin(), values.end(), std::uint16_t{0});
    test::write_bytes(scratch / "a.bin",
                      {reinterpret_cast<const char*>(values.data()), values.size() * 2});
    const auto corpus = std::make_shared<TokenCorpus>(TokenCorpus::open({scratch / "a.bin"}));
    dataset = std::make_shared<TokenDataset>(corpus, context);
  }
  BatchLoaderArgs args() const {
    return {.dataset = dataset,
            .stream = make_cpu_stream(),
            .seed = 3,
            .global_batch = 8,
            .micro_batch = 2,
            .ranks = {},
            .position = 0};
  }
  test::Scratch scratch;
  std::shared_ptr<const TokenDataset> dataset;
};

/// Appends the rows of the batches by their global index, checking targets on the way.
void collect(const std::vector<Batch>& batches, std::map<std::int64_t, Row>& rows) {
  for (const Batch& batch : batches) {
    const Row inputs = batch.inputs.to_vector<std::int32_t>();
    const Row targets = batch.targets.to_vector<std::int32_t>();
    REQUIRE(batch.inputs.shape() == batch.targets.shape());
    for (std::size_t i = 0; i < inputs.size(); ++i) REQUIRE(targets[i] == inputs[i] + 1);
    const std::int64_t width = batch.inputs.size(1);
    for (std::int64_t i = 0; i < batch.inputs.size(0); ++i) {
      const auto begin = inputs.begin() + i * width;
      const bool fresh = rows.emplace(batch.first_sample + i, Row(begin, begin + width)).second;
      REQUIRE(fresh);
    }
  }
}

std::map<std::int64_t, Row> run_ranks(const BatchLoaderArgs& args, int world, int steps) {
  std::map<std::int64_t, Row> rows;
  for (int rank = 0; rank < world; ++rank) {
    BatchLoaderArgs mine = args;
    mine.ranks = {rank, world};
    BatchLoader loader(mine);
    for (int step = 0; step < steps; ++step) collect(loader.next(), rows);
  }
  return rows;
}

}  // namespace

TEST_CASE("windows share one token and drop the tail") {
  const Counting data(23, 5);
  CHECK(data.dataset->windows() == 4);
  Row window(6);
  data.dataset->window(3, window);
  CHECK(window == Row{15, 16, 17, 18, 19, 20});
  CHECK(Counting(21, 5).dataset->windows() == 4);
  CHECK(Counting(20, 5).dataset->windows() == 3);
  CHECK(Counting(6, 5).dataset->windows() == 1);
  CHECK_THROWS_AS(Counting(5, 5), DataError);
  CHECK_THROWS_AS(Counting(5, 0), ConfigError);
}

TEST_CASE("an epoch has each of its windows once, and the next one other windows") {
  for (const auto& [tokens, context] : {std::pair{103, 5}, {6, 5}, {7, 5}, {11, 5}, {40, 1}}) {
    CAPTURE(tokens);
    const Counting data(tokens, context);
    const std::int64_t samples = data.dataset->epoch_samples();
    CHECK(samples >= 1);
    CHECK(samples >= data.dataset->windows() - 1);
    std::set<std::int32_t> offsets;
    for (std::int64_t epoch = 0; epoch < 20; ++epoch) {
      std::set<std::int32_t> starts;
      Row row(static_cast<std::size_t>(context) + 1);
      for (std::int64_t i = 0; i < samples; ++i) {
        data.dataset->sample(1, epoch * samples + i, row);
        starts.insert(row[0]);
      }
      CHECK(std::ssize(starts) == samples);
      CHECK(*starts.rbegin() - *starts.begin() == (samples - 1) * context);
      offsets.insert(*starts.begin());
    }
    const bool can_move = tokens > samples * context + 1 && context > 1;
    CHECK((offsets.size() > 1) == can_move);
    CHECK(*offsets.rbegin() < context);
  }
}

TEST_CASE("any number of ranks sees one global order, across epochs") {
  const Counting data(60, 5);  // 11 samples an epoch, 24 in three steps
  REQUIRE(data.dataset->epoch_samples() == 11);
  const auto alone = run_ranks(data.args(), 1, 3);
  CHECK(alone.size() == 24);
  CHECK(alone.begin()->first == 0);
  CHECK(alone.rbegin()->first == 23);
  CHECK(run_ranks(data.args(), 2, 3) == alone);
  CHECK(run_ranks(data.args(), 4, 3) == alone);
  for (const auto& [position, inputs] : alone) {
    Row row(6);
    data.dataset->sample(3, position, row);
    row.pop_back();
    CHECK(inputs == row);
  }
  BatchLoaderArgs other = data.args();
  other.seed = 4;
  CHECK(run_ranks(other, 1, 3) != alone);
}

TEST_CASE("micro-batches have their shape and order") {
  const Counting data(200, 5);
  BatchLoaderArgs args = data.args();
  args.ranks = {1, 2};
  BatchLoader loader(args);
  loader.next();
  const std::vector<Batch> batches = loader.next();
  REQUIRE(batches.size() == 2);
  CHECK(batches[0].first_sample == 8 + 4);
  CHECK(batches[1].first_sample == 8 + 6);
  CHECK(batches[1].inputs.shape() == Shape{2, 5});
  CHECK(batches[1].inputs.dtype() == DType::kInt32);
}

TEST_CASE("seek continues as if nothing had happened") {
  const Counting data(60, 5);
  BatchLoader loader(data.args());
  loader.next();
  loader.next();
  CHECK(loader.position() == 16);
  std::map<std::int64_t, Row> expected;
  collect(loader.next(), expected);
  BatchLoaderArgs args = data.args();
  args.position = 16;
  std::map<std::int64_t, Row> resumed;
  BatchLoader other(args);
  collect(other.next(), resumed);
  CHECK(resumed == expected);
  CHECK(other.position() == 24);
  loader.seek(16);
  std::map<std::int64_t, Row> again;
  collect(loader.next(), again);
  CHECK(again == expected);
  CHECK_THROWS_AS(loader.seek(-1), ConfigError);
}

TEST_CASE("the reading thread ends with its loader, whatever it is doing") {
  const Counting data(2000, 5);
  for (int i = 0; i < 50; ++i) {
    BatchLoader loader(data.args());
    if (i % 2 == 0)
      loader.next();
    if (i % 5 == 0)
      loader.seek(i);
  }
}

TEST_CASE("an error of the reading thread reaches the caller, each time") {
  const Counting data(60, 5);
  const auto corpus =
      std::make_shared<TokenCorpus>(TokenCorpus::open({data.scratch / "a.bin"}, /*vocab_size=*/30));
  BatchLoaderArgs args = data.args();
  args.dataset = std::make_shared<TokenDataset>(corpus, 5);
  BatchLoader loader(args);
  const auto drain = [&] {
    for (int i = 0; i < 3; ++i) loader.next();
  };
  const std::string text = test::data_error_of(drain);
  CHECK(text.find("a.bin: token ") != std::string::npos);
  CHECK(test::data_error_of([&] { loader.next(); }) == text);
}

TEST_CASE("a global batch that cannot be shared is refused") {
  const Counting data(200, 5);
  const auto refuses = [&](auto change) {
    BatchLoaderArgs args = data.args();
    change(args);
    CHECK_THROWS_AS(BatchLoader{args}, ConfigError);
  };
  refuses([](BatchLoaderArgs& a) { a.global_batch = 7; });
  refuses([](BatchLoaderArgs& a) { a.global_batch = 0; });
  refuses([](BatchLoaderArgs& a) { a.micro_batch = 0; });
  refuses([](BatchLoaderArgs& a) { a.ranks = {0, 3}; });
  refuses([](BatchLoaderArgs& a) { a.ranks = {2, 2}; });
  refuses([](BatchLoaderArgs& a) { a.ranks = {0, 0}; });
}

TEST_CASE("a validation pass has every window once, for any number of ranks") {
  const Counting data(60, 5);  // 11 windows
  for (const int world : {1, 2, 4, 16}) {
    CAPTURE(world);
    std::map<std::int64_t, Row> rows;
    std::int64_t tokens = 0;
    for (int rank = 0; rank < world; ++rank) {
      SequentialBatches batches(data.dataset, make_cpu_stream(), 2, {rank, world});
      CHECK(batches.total_tokens() == 55);
      CHECK(batches.rounds() == (world == 1 ? 6 : world == 2 ? 3 : world == 4 ? 2 : 1));
      std::int64_t count = 0;
      while (const auto batch = batches.next()) {
        ++count;
        CHECK(batch->inputs.size(0) <= 2);
        tokens += batch->inputs.numel();
        collect({*batch}, rows);
      }
      CHECK_FALSE(batches.next());
      CHECK(count <= batches.rounds());
    }
    CHECK(tokens == 55);
    REQUIRE(rows.size() == 11);
    for (const auto& [index, row] : rows) CHECK(row.front() == index * 5);
  }
  SequentialBatches some(data.dataset, make_cpu_stream(), 4, {}, /*max_windows=*/5);
  CHECK(some.total_tokens() == 25);
  CHECK(some.next()->inputs.size(0) == 4);
  CHECK(some.next()->inputs.size(0) == 1);
  CHECK_THROWS_AS(SequentialBatches(data.dataset, make_cpu_stream(), 0), ConfigError);
  CHECK_THROWS_AS(SequentialBatches(data.dataset, make_cpu_stream(), 1, {0, 0}), ConfigError);
}

}  // namespace hew
