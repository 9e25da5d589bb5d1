#pragma once

#include <cstdint>
#include <fstream>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "app/bench_bsr.h"
#include "app/bench_bsr_products.h"

namespace hew {

/// What the roofline is made of.
struct BsrCeilings {
  double flops = 0;   // FLOP/s
  double bytes = 0;   // bytes/s
  std::string words;  // for the head of a table
};

/// One product of one weight.
struct BsrCell {
  BsrProduct product{};
  BsrShape shape;
  std::int64_t block = 0;
  double wanted_sparsity = 0;
  double sparsity = 0;
  std::int64_t live_blocks = 0;
  BsrWork work;
  BsrTimes times;
};

/// What `hew bench bsr` prints: a table, or with `json` one object a cell.
class BsrTable {
 public:
  using Print = std::function<void(const std::string&)>;

  /// Throws ConfigError where the options' output cannot be written.
  BsrTable(const BenchBsrOptions& options, BsrCeilings ceilings, Print print);
  BsrTable(const BsrTable&) = delete;
  BsrTable& operator=(const BsrTable&) = delete;
  /// An output that has got no record goes away.
  ~BsrTable();

  void begin_shape(const BsrShape& shape);
  void note(const std::string& text);
  /// All products of one weight, and perhaps the layer that they make.
  void add(const std::vector<BsrCell>& cells, const std::optional<BsrLayerTimes>& layer);
  /// The geometric mean of each product and block size, and the worst cell. Throws Error if the
  /// result of a cell was wrong.
  void finish();

 private:
  // Of a cell or of the sum of several.
  struct Line {
    std::string product;
    std::string where = {};  // shape and sparsity
    std::int64_t block = 0;
    double sparsity = 0;
    double sparse_seconds = 0;
    double dense_seconds = 0;
    double uniform_seconds = 0;
    double kept_seconds = 0;  // without the fold of W; 0: the same
    double flops = 0;
    double dense_flops = 0;
    double roofline_seconds = 0;
    const char* bound = "";
    double error = 0;

    double share() const { return roofline_seconds / sparse_seconds; }
    double speedup() const { return dense_seconds / sparse_seconds; }
    double over_uniform() const { return sparse_seconds / uniform_seconds; }
  };

  Line line_of(const BsrCell& cell) const;
  void print_row(const Line& line);
  std::string json_of(const BsrCell& cell, const Line& line) const;
  void print_means(const std::vector<Line>& group);

  BenchBsrOptions options_;
  BsrCeilings ceilings_;
  Print print_;
  std::ofstream output_;
  std::vector<Line> lines_;
};

}  // namespace hew
