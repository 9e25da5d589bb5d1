#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "kernels/bsr_route.h"
#include "kernels/hopper/packing.h"

namespace hew::kernels {

/// Products whose times can be compared: all but the tokens and the live blocks.
struct BsrRouteKey {
  BsrProduct product = BsrProduct::kForward;
  DType dtype = DType::kBFloat16;
  bool tf32 = false;  // of float32 alone
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t block = 0;

  friend auto operator<=>(const BsrRouteKey&,
                          const BsrRouteKey&) = default;  // NOLINT(modernize-use-nullptr)
};

BsrRouteKey key_of(const BsrProblem& problem);

/// Seconds of one product both ways.
struct BsrRouteTimes {
  double own = 0;     // our own kernels
  double folded = 0;  // the dense product on the folded weight
};

/// Measured times of block-sparse products on one kind of GPU. As text: a first line
/// `hew-bsr-routes 1 DEVICE`, then a line for each product,
/// `PRODUCT DTYPE N K BLOCK TOKENS DENSITY OWN FOLDED`, where DTYPE is bfloat16, float32, tf32 or
/// float64, DENSITY the live share of the blocks, and OWN and FOLDED are seconds.
class BsrRoutes {
 public:
  explicit BsrRoutes(std::string device) : device_(std::move(device)) {}
  /// Throws DataError, which calls the text `name` and says the line.
  static BsrRoutes from_text(std::string_view text, std::string_view name);
  std::string to_text() const;

  /// What they were measured on.
  const std::string& device() const { return device_; }
  bool empty() const { return measured_.empty(); }
  /// In place of what there was for the same tokens and density.
  void add(const BsrProblem& problem, const BsrRouteTimes& times);

  /// own/folded of a problem, from times of the same key: those of the nearest number of tokens, as
  /// a ratio, if it is within a factor of 2; ln(own/folded) is interpolated between measured
  /// densities, and beyond them stays what it is at the last. Nothing where no times fit.
  std::optional<double> ratio(const BsrProblem& problem) const;

 private:
  using ByDensity = std::map<double, BsrRouteTimes>;
  using ByTokens = std::map<std::int64_t, ByDensity>;

  void add(const BsrRouteKey& key, std::int64_t tokens, double density, const BsrRouteTimes& times);

  std::string device_;
  std::map<BsrRouteKey, ByTokens> measured_;
};

enum class BsrFolding : std::uint8_t { kAuto, kOwn, kFolded };
/// Whether an MLP is one kernel where there is one: by what is expected to be faster, or in any
/// case.
enum class BsrFusing : std::uint8_t { kAuto, kNever, kAlways };

/// How block-sparse products are computed on one stream: `stream.state->get<BsrSettings>(stream)`.
/// Means nothing on the CPU.
struct BsrSettings {
  explicit BsrSettings(const Stream& /*stream*/) {}

  BsrFolding folding = BsrFolding::kAuto;  // kOwn and kFolded: in any case
  BsrFusing fusing = BsrFusing::kAuto;     // of bsr_mlp_forward
  std::optional<BsrRoutes> routes;
  bool routes_count = false;  // they were measured on a device like the stream's
  // Where a block has it; nothing: if it pays.
  std::optional<hopper::BsrPacking> packing;
  std::optional<bool> tall;  // tiles of 256 rows
  bool keep_folded = true;   // else each product folds W anew, whatever FoldedWeight it is given

  /// Takes measured times, which count only if `device` is what they were measured on. Returns
  /// whether they do.
  bool use(BsrRoutes measured, std::string_view device);
  /// Whether the dense product on the folded weight is to be taken: as `folding` says, else by
  /// measured times, else by cheapest_route().
  bool folds(const BsrProblem& problem) const;
};

}  // namespace hew::kernels
