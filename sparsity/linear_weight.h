#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "autograd/forward_context.h"
#include "autograd/parameter.h"
#include "core/named_enum.h"
#include "kernels/activation.h"
#include "sparsity/pattern.h"
#include "sparsity/soft_mask.h"
#include "sparsity/sparse_feed_forward.h"

namespace hew::sparsity {

/// How a weight matrix is held.
///   kDense       one parameter `name` [N, K]
///   kLiveBlocks  one parameter `name` [nnzb, b, b]: what is dead is not stored anywhere
///   kMaster      `name` [N, K] dense under a mask, which may be soft (W is then W ⊙ m ⊙ mask),
///                and `name.scores` [R, C] where scores are learned
enum class Storage : std::uint8_t { kDense, kLiveBlocks, kMaster };

/// The weight W [N, K] of one linear layer in whichever storage sparsity has put it.
class LinearWeight {
 public:
  /// Dense, from starting values [N, K].
  LinearWeight(std::string name, const Tensor& dense);

  const std::string& name() const { return name_; }
  Storage storage() const { return storage_; }
  std::int64_t out_features() const { return out_features_; }
  std::int64_t in_features() const { return in_features_; }
  /// Which blocks are live; null while dense.
  const PatternPtr& pattern() const { return pattern_; }
  bool has_scores() const { return static_cast<bool>(scores_.var); }
  const SoftMask& soft_mask() const { return soft_; }
  ag::Parameter& parameter() { return weight_; }
  const ag::Parameter& parameter() const { return weight_; }
  ag::Parameter& scores() { return scores_; }
  /// The parameters in the order in which they are trained, saved and reported.
  void collect_parameters(std::vector<ag::Parameter*>& out);

  /// act(x·Wᵀ + bias), x [M, K] → [M, N]; W is masked as pattern() says. bias may be undefined.
  ag::Variable product(const ag::Variable& x, const ag::Variable& bias,
                       kernels::Activation activation, const ag::ForwardContext& context) const;

  /// What products read of live blocks, for ops that contain this layer.
  SparseLayer live_layer(const ag::Variable& bias, const ag::ForwardContext& context) const;

  /// From dense to live blocks: keeps the pattern's blocks of W, drops the others.
  void keep_live_blocks(const PatternPtr& pattern);
  /// From dense to a masked master. Scores [R, C] may be undefined: then the mask is moved by
  /// set_pattern alone.
  void mask_master(const PatternPtr& pattern, const Tensor& scores);
  /// From master to live blocks, those of the pattern; scores end, and a soft mask becomes part of
  /// the values.
  void drop_dead_blocks(const PatternPtr& pattern);
  /// Moves to another pattern on the same grid. Live blocks: values (and the gradient, if any) of
  /// blocks in both patterns are kept, new blocks start at 0 with the gradient that
  /// dense_gradient() has, or had, for them; returns for each new block its old position or −1.
  /// Master: only the mask moves; returns the same positions.
  std::vector<std::int64_t> set_pattern(const PatternPtr& pattern);
  /// Of a master: products read the blocks of another pattern on the same grid from here on, times
  /// the soft mask if there is one. Nothing else moves, not even a gradient, and the host does not
  /// look at the pattern.
  void set_mask(const PatternPtr& pattern, const SoftMask& soft = {});
  /// Takes values and pattern as loaded from a file, whatever was held before.
  void restore(Storage storage, const PatternPtr& pattern, const Tensor& values,
               const Tensor& scores);

  /// From here to clear_dense_gradient(), backward also computes G = dYᵀ·X [N, K] in full.
  void request_dense_gradient();
  bool wants_dense_gradient() const { return static_cast<bool>(probe_); }
  /// The leaf whose gradient G is (ag::Variable::key).
  const void* dense_gradient_key() const { return probe_.key(); }
  /// G summed over the micro-batches since the request; undefined before backward.
  Tensor& dense_gradient() { return probe_.grad(); }
  /// Of G keeps what set_pattern() to the mask `next` will look at, and frees the rest: of live
  /// blocks those that are new in it, of a master all that are in it. dense_gradient() is undefined
  /// from here on.
  void narrow_dense_gradient(const MaskBytes& next);
  void clear_dense_gradient();

  /// The whole matrix [N, K] with zeros for dead blocks: a copy, except while dense.
  Tensor folded() const;
  /// Live values [nnzb, b, b]: a copy only for a master. Needs a pattern.
  Tensor live_values() const;

 private:
  Tensor next_gradient(const BsrPattern& next, const std::vector<std::int64_t>& source) const;

  std::string name_;
  std::int64_t out_features_ = 0;
  std::int64_t in_features_ = 0;
  Storage storage_ = Storage::kDense;
  ag::Parameter weight_;
  ag::Parameter scores_;
  PatternPtr pattern_;
  SoftMask soft_;       // of a master; may be undefined
  ag::Variable probe_;  // leaf without memory whose gradient is the dense G
  Tensor narrowed_;     // what is kept of it [n, b, b], in the order of the next pattern
};

}  // namespace hew::sparsity

namespace hew {

template <>
struct EnumNames<sparsity::Storage> {
  using E = sparsity::Storage;
  static constexpr auto kTable = std::to_array<std::pair<E, std::string_view>>(
      {{E::kDense, "dense"}, {E::kLiveBlocks, "blocks"}, {E::kMaster, "master"}});
};

}  // namespace hew
