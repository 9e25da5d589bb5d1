#include "app/bench_bsr_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "app/bench_options.h"
#include "core/device.h"
#include "core/error.h"

namespace hew {
namespace {

constexpr const char* kSum = "all three";
constexpr const char* kLayer = "layer";

double geometric_mean(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += std::log(value);
  return std::exp(sum / static_cast<double>(values.size()));
}

}  // namespace

BsrTable::BsrTable(const BenchBsrOptions& options, BsrCeilings ceilings, Print print)
    : options_(options), ceilings_(std::move(ceilings)), print_(std::move(print)) {
  if (options.output.empty())
    return;
  require_bench_output(options.output);
  output_.open(options.output);
  require<ConfigError>(output_.is_open(), "--output {}: cannot be written", options.output);
}

BsrTable::~BsrTable() {
  std::error_code ignored;
  if (output_.is_open() && lines_.empty() &&
      std::filesystem::is_regular_file(options_.output, ignored))
    std::filesystem::remove(options_.output, ignored);
}

void BsrTable::begin_shape(const BsrShape& shape) {
  if (options_.json)
    return;
  print_(fmt::format("{}M {} · N {} · K {} · {} · {}{}{}",
                     shape.name.empty() ? "" : shape.name + " · ", shape.m, shape.n, shape.k,
                     options_.dtype, options_.pattern == "random" ? "" : options_.pattern + " · ",
                     ceilings_.words,
                     options_.dispatch ? " · W kept: without the time to fold W · layer: as in "
                                         "training, with one fold"
                                       : ""));
  print_(fmt::format("{:<16}{:>6}{:>10}{:>10}{:>10}{:>9}{:>11}{:>9}{:>9}{:>8}{:>9}{:>9}{}{}",
                     "product", "block", "sparsity", "ms", "dense ms", "speed-up", "roofline",
                     parse_device(options_.device).is_cpu() ? "GFLOP/s" : "TFLOP/s", "dense",
                     "of peak", "bound", "error",
                     options_.pattern == "random" ? "" : "  over uniform",
                     options_.dispatch ? "   W kept ms speed-up" : ""));
}

void BsrTable::note(const std::string& text) {
  if (!options_.json)
    print_(text);
}

BsrTable::Line BsrTable::line_of(const BsrCell& cell) const {
  const BsrShape& shape = cell.shape;
  const double at_flops = cell.work.flops / ceilings_.flops;
  const double at_bytes = cell.work.bytes / ceilings_.bytes;
  return {.product = std::string(name_of(cell.product)),
          .where = fmt::format("{}{}{}", shape.name, shape.name.empty() ? "" : " ",
                               cell.wanted_sparsity),
          .block = cell.block,
          .sparsity = cell.sparsity,
          .sparse_seconds = cell.times.sparse,
          .dense_seconds = cell.times.dense,
          .uniform_seconds = cell.times.uniform,
          .kept_seconds = cell.times.kept,
          .flops = cell.work.flops,
          .dense_flops = 2 * static_cast<double>(shape.m) * static_cast<double>(shape.n) *
                         static_cast<double>(shape.k),
          .roofline_seconds = std::max(at_flops, at_bytes),
          .bound = at_flops >= at_bytes ? "flops" : "bytes",
          .error = cell.times.error};
}

std::string BsrTable::json_of(const BsrCell& cell, const Line& line) const {
  nlohmann::ordered_json object{{"product", line.product},
                                {"shape", cell.shape.name},
                                {"M", cell.shape.m},
                                {"N", cell.shape.n},
                                {"K", cell.shape.k},
                                {"block", line.block},
                                {"wanted_sparsity", cell.wanted_sparsity},
                                {"sparsity", line.sparsity},
                                {"live_blocks", cell.live_blocks},
                                {"pattern", options_.pattern},
                                {"dtype", options_.dtype},
                                {"ms", line.sparse_seconds * 1e3},
                                {"dense_ms", line.dense_seconds * 1e3},
                                {"speedup", line.speedup()},
                                {"roofline", line.share()},
                                {"bound", line.bound},
                                {"error", line.error},
                                {"gflops", line.flops / line.sparse_seconds * 1e-9},
                                {"dense_gflops", line.dense_flops / line.dense_seconds * 1e-9},
                                {"fma_gflops", ceilings_.flops * 1e-9},
                                {"copy_gbs", ceilings_.bytes * 1e-9},
                                {"device", options_.device},
                                {"threads", options_.threads}};
  if (line.uniform_seconds > 0)
    object["uniform_ms"] = line.uniform_seconds * 1e3;
  if (line.kept_seconds > 0)
    object["kept_ms"] = line.kept_seconds * 1e3;
  return object.dump();
}

void BsrTable::print_row(const Line& line) {
  const double unit = parse_device(options_.device).is_cpu() ? 1e-9 : 1e-12;
  const double dense_rate = line.dense_flops / line.dense_seconds;
  print_(fmt::format(
      "{:<16}{:>6}{:>10.4f}{:>10.4f}{:>10.4f}{:>8.2f}x{:>10.1f}%{:>9.1f}{:>9.1f}"
      "{:>7.0f}%{:>9}{:>9.1e}{}{}{}",
      line.product, line.block, line.sparsity, line.sparse_seconds * 1e3, line.dense_seconds * 1e3,
      line.speedup(), 100 * line.share(), line.flops / line.sparse_seconds * unit,
      dense_rate * unit, 100 * dense_rate / ceilings_.flops, line.bound, line.error,
      line.uniform_seconds > 0 ? fmt::format("{:>13.2f}x", line.over_uniform()) : "",
      line.kept_seconds > 0 ? fmt::format("{:>12.4f}{:>8.2f}x", line.kept_seconds * 1e3,
                                          line.dense_seconds / line.kept_seconds)
                            : "",
      line.error <= kMaxBsrError ? "" : "  WRONG"));
}

void BsrTable::add(const std::vector<BsrCell>& cells, const std::optional<BsrLayerTimes>& layer) {
  Line sum{.product = kSum};
  for (const BsrCell& cell : cells) {
    const Line line = line_of(cell);
    if (output_.is_open()) {
      output_ << json_of(cell, line) << std::endl;
      require<DataError>(output_.good(), "{}: cannot be written (disk full?)", options_.output);
    }
    options_.json ? print_(json_of(cell, line)) : print_row(line);
    lines_.push_back(line);
    sum.where = line.where;
    sum.block = line.block;
    sum.sparsity = line.sparsity;
    sum.sparse_seconds += line.sparse_seconds;
    sum.dense_seconds += line.dense_seconds;
    sum.uniform_seconds += line.uniform_seconds;
    sum.flops += line.flops;
    sum.dense_flops += line.dense_flops;
    sum.roofline_seconds += line.roofline_seconds;
    // A NaN stays.
    sum.error = line.error <= sum.error ? sum.error : line.error;
  }
  if (cells.size() != EnumNames<BsrProduct>::kTable.size())
    return;
  if (!options_.json)
    print_row(sum);
  lines_.push_back(sum);
  if (!layer)
    return;
  sum.product = kLayer;
  sum.sparse_seconds = layer->sparse;
  sum.dense_seconds = layer->dense;
  sum.uniform_seconds = 0;
  sum.error = layer->error;
  if (!options_.json)
    print_row(sum);
  lines_.push_back(sum);
}

void BsrTable::print_means(const std::vector<Line>& group) {
  std::vector<double> shares;
  std::vector<double> speedups;
  for (const Line& line : group) {
    shares.push_back(line.share());
    speedups.push_back(line.speedup());
  }
  const auto worst_share =
      static_cast<std::size_t>(std::min_element(shares.begin(), shares.end()) - shares.begin());
  const auto worst_speedup = static_cast<std::size_t>(
      std::min_element(speedups.begin(), speedups.end()) - speedups.begin());
  const auto slowest = std::max_element(
      group.begin(), group.end(),
      [](const Line& a, const Line& b) { return a.over_uniform() < b.over_uniform(); });
  print_(fmt::format("{:<16}{:>6}{:>7}{:>9.1f}%{:>7.1f}% {:<18}{:>8.2f}x{:>7.2f}x {:<18}{}",
                     group.front().product, group.front().block, group.size(),
                     100 * geometric_mean(shares), 100 * shares[worst_share],
                     group[worst_share].where, geometric_mean(speedups), speedups[worst_speedup],
                     group[worst_speedup].where,
                     slowest->uniform_seconds > 0
                         ? fmt::format("{:>6.2f}x {}", slowest->over_uniform(), slowest->where)
                         : ""));
}

void BsrTable::finish() {
  if (!options_.json && lines_.size() > 1) {
    print_("");
    print_(fmt::format("{:<16}{:>6}{:>7}{:>10}{:>8} {:<18}{:>9}{:>8} {:<18}{}", "geometric means",
                       "block", "cells", "roofline", "worst", "at", "speed-up", "worst", "at",
                       options_.pattern == "random" ? "" : "most over uniform"));
    std::vector<std::string> products;
    products.reserve(EnumNames<BsrProduct>::kTable.size() + 1);
    for (const auto& entry : EnumNames<BsrProduct>::kTable) products.emplace_back(entry.second);
    products.emplace_back(kSum);
    products.emplace_back(kLayer);
    for (const std::string& product : products) {
      for (const std::int64_t block : options_.blocks) {
        std::vector<Line> group;
        std::copy_if(lines_.begin(), lines_.end(), std::back_inserter(group),
                     [&](const Line& l) { return l.product == product && l.block == block; });
        if (!group.empty())
          print_means(group);
      }
    }
  }
  std::int64_t wrong = 0;
  std::string first;
  for (const Line& line : lines_) {
    if (line.error <= kMaxBsrError || line.product == kSum)
      continue;
    if (wrong++ == 0)
      first = fmt::format("{} {} block {}", line.product, line.where, line.block);
  }
  require<Error>(wrong == 0,
                 "bench bsr: {} results differ from the dense product by more than {}, "
                 "first {}",
                 wrong, kMaxBsrError, first);
}

}  // namespace hew
