#include "app/bench_bsr.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "app/bench_bsr_table.h"
#include "core/stream.h"
#include "tests/app/bench_refusal.h"

namespace hew {
namespace {

BenchBsrOptions small() {
  return {.tokens = {70},
          .out_features = 96,
          .in_features = 50,
          .blocks = {8, 16},
          .sparsities = {0, 0.5},
          .threads = 1,
          .repeats = 1,
          .json = true};
}

std::vector<std::string> lines_of(const BenchBsrOptions& options) {
  std::vector<std::string> lines;
  bench_bsr(options, [&](const std::string& line) { lines.push_back(line); });
  return lines;
}

std::string refusal_of(const BenchBsrOptions& options) {
  return test::refusal_of(bench_bsr, options);
}

}  // namespace

TEST_CASE("bench bsr prints one object for each block, sparsity and product") {
  const std::vector<std::string> lines = lines_of(small());
  REQUIRE(lines.size() == 2 * 2 * 3);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const auto object = nlohmann::json::parse(lines[i]);
    const std::array<std::string, 3> names{"forward", "input_gradient", "weight_gradient"};
    CHECK(object["product"] == names[i % 3]);
    CHECK(object["M"] == 70);
    CHECK(object["N"] == 96);
    CHECK(object["K"] == 50);
    CHECK(object["block"] == (i < 6 ? 8 : 16));
    CHECK(object["wanted_sparsity"].get<double>() == (i % 6 < 3 ? 0 : 0.5));
    CHECK(object["sparsity"].get<double>() == doctest::Approx(i % 6 < 3 ? 0 : 0.5));
    CHECK(object["dtype"] == "fp32");
    CHECK(object["error"].get<double>() < 1e-6);
    const double ms = object["ms"];
    const double dense_ms = object["dense_ms"];
    CHECK(ms > 0);
    CHECK(object["speedup"].get<double>() == doctest::Approx(dense_ms / ms));
    CHECK(std::isfinite(object["roofline"].get<double>()));
    CHECK(object["fma_gflops"].get<double>() > 0);
    CHECK(object["copy_gbs"].get<double>() > 0);
    CHECK_FALSE(object.contains("kept_ms"));  // a CPU folds nothing
  }
}

TEST_CASE("bench bsr --tokens takes several numbers, and the place of a known shape's own") {
  BenchBsrOptions options = small();
  options.tokens = {3, 16};
  options.shapes = {"vitb_fc2"};
  options.blocks = {64};
  options.sparsities = {0.95};
  options.products = {"forward"};
  const std::vector<std::string> lines = lines_of(options);
  REQUIRE(lines.size() == 2);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const auto object = nlohmann::json::parse(lines[i]);
    CHECK(object["shape"] == "vitb_fc2");
    CHECK(object["M"] == options.tokens[i]);
    CHECK(object["N"] == 768);
  }
  options.tokens = {3, 0};
  CHECK(refusal_of(options) == "--tokens 0: expected 1 or more");
}

TEST_CASE("bench bsr --dispatch times a layer beside its products") {
  BenchBsrOptions options = small();
  options.json = false;
  options.dispatch = true;
  const std::vector<std::string> lines = lines_of(options);
  const std::size_t table = 2 + 2 * 2 * 5;
  REQUIRE(lines.size() == table + 2 + 5 * 2);
  CHECK(lines[5].starts_with("all three"));
  CHECK(lines[6].starts_with("layer"));
  CHECK(lines.back().starts_with("layer"));
}

TEST_CASE("bench bsr prints a table with the sum of the products, then means over the cells") {
  BenchBsrOptions options = small();
  options.json = false;
  options.dtype = "fp64";
  options.output = "bench_bsr_test.jsonl";  // takes the objects beside the table
  const std::vector<std::string> lines = lines_of(options);
  const std::size_t table = 2 + 2 * 2 * 4;
  REQUIRE(lines.size() == table + 2 + 4 * 2);
  CHECK(lines[5].starts_with("all three"));
  CHECK(lines[table + 1].starts_with("geometric means"));
  CHECK(lines[table + 2].starts_with("forward              8      2 "));
  CHECK(std::none_of(lines.begin(), lines.end(), [](const std::string& line) {
    return line.find("WRONG") != std::string::npos;
  }));
  std::ifstream file(options.output);
  int objects = 0;
  for (std::string line; std::getline(file, line); ++objects) {
    CHECK(nlohmann::json::parse(line)["dtype"] == "fp64");
  }
  CHECK(objects == 12);
  file.close();
  std::remove(options.output.c_str());
}

TEST_CASE("bench bsr --products leaves out others; --pattern times a uniform one beside it") {
  BenchBsrOptions options = small();
  options.blocks = {16};
  options.sparsities = {0.5};
  options.products = {"weight_gradient"};
  options.pattern = "long-row";
  const std::vector<std::string> lines = lines_of(options);
  REQUIRE(lines.size() == 1);
  const auto object = nlohmann::json::parse(lines[0]);
  CHECK(object["product"] == "weight_gradient");
  CHECK(object["pattern"] == "long-row");
  CHECK(object["uniform_ms"].get<double>() > 0);
  CHECK(object["error"].get<double>() < 1e-6);
}

TEST_CASE("an output that gets no record does not stay") {
  const std::filesystem::path path =
      std::filesystem::temp_directory_path() / fmt::format("hew-bench-bsr-{}.jsonl", ::getpid());
  BenchBsrOptions options;
  options.output = path.string();
  {
    const BsrTable table(options, {}, [](const std::string&) {});
    CHECK(std::filesystem::exists(path));
  }
  CHECK_FALSE(std::filesystem::exists(path));
}

TEST_CASE("bench bsr refuses what it cannot run") {
  BenchBsrOptions options = small();
  options.blocks = {12};
  CHECK(refusal_of(options) == "--blocks 12: expected multiples of 8 up to 128");
  options = small();
  options.sparsities = {1.5};
  CHECK(refusal_of(options) == "--sparsity 1.5: expected 0 to 1");
  options = small();
  options.repeats = 0;
  CHECK(refusal_of(options) == "--repeats 0: expected 1 or more");
  options = small();
  options.products = {"backward"};
  CHECK(refusal_of(options) ==
        "--products backward: expected some of forward, input_gradient, weight_gradient");
  options = small();
  options.pattern = "diagonal";
  CHECK(refusal_of(options) == "--pattern diagonal: expected random, long-row or long-column");
  options = small();
  options.dtype = "bf16";
  CHECK(refusal_of(options) == "--dtype bf16: expected fp32 or fp64 on a CPU");
  options = small();
  options.shapes = {"llama_sideways"};
  CHECK(refusal_of(options) ==
        "--shape llama_sideways: expected all or some of vitb_fc1, vitb_fc2, gpt2xl_fc1, llama_up, "
        "llama_down");
  options = small();
  options.output = "no/such/folder/file.jsonl";
  CHECK(refusal_of(options) == "--output no/such/folder/file.jsonl: cannot be written");
}

TEST_CASE("bench bsr refuses a GPU that is not there") {
  if (cuda_device_count() > 0)
    return;
  BenchBsrOptions options = small();
  options.device = "cuda";
  CHECK(refusal_of(options) == "--device cuda: this build or machine has only cpu");
}

}  // namespace hew
