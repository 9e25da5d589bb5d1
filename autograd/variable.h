#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "core/tensor.h"

namespace hew::kernels {
class FoldedWeight;
}

namespace hew::ag {

struct Node;
struct Slot;
class Needs;

/// A backward rule: (∂L/∂output, which inputs need a gradient) → ∂L/∂input in input order. Pure: it
/// closes over saved tensors, never over variables, and may leave what is not needed (or zero)
/// undefined. It may return a gradient of a broadcast shape (extra leading dimensions); the engine
/// sums it down.
using BackwardRule = std::function<std::vector<Tensor>(const Tensor& grad_output, Needs& needs)>;

/// A value in the tape: a tensor, whether a gradient is wanted, and for a leaf that gradient.
/// A cheap handle: copies share one state.
class Variable {
 public:
  struct State;

  Variable() = default;
  /// A leaf. With requires_grad, backward() adds into grad().
  explicit Variable(Tensor value, bool requires_grad = false);

  bool defined() const { return state_ != nullptr; }
  explicit operator bool() const { return defined(); }
  const Tensor& value() const;
  bool requires_grad() const;
  /// Gradient of a leaf, of value()'s shape, and of its dtype or the accumulator of that; undefined
  /// before the first backward().
  Tensor& grad();
  const Tensor& grad() const;
  /// Forgets the gradient.
  void zero_grad() { grad() = Tensor(); }
  /// The same tensor, cut off the tape.
  Variable detach() const;

  /// The leaf's tensor for writing (loading, plain updates), at once: what has been computed from
  /// the old value, the working copy and folded(), is dropped now, and may be made again by the
  /// next product.
  Tensor& mutable_value();
  /// A leaf whose value is this one's rounded to `dtype` and whose gradient is this one's: what a
  /// forward pass in lower precision uses. Made when first asked for, and again after a change;
  /// this leaf itself if that is its dtype.
  Variable working(DType dtype) const;
  /// The leaf's tensor and its working copy (undefined if there is none), for an optimizer that
  /// writes both, at once. Drops what folded() of either keeps.
  struct Update {
    Tensor value;
    Tensor working;
  };
  Update update();
  /// Of a leaf that is live blocks: where products keep them as a dense matrix. The same for all
  /// handles; not detach()'s.
  std::shared_ptr<kernels::FoldedWeight> folded() const;
  /// Stands for the place of the gradient: equal for a leaf and its working copy.
  const void* key() const;

  const Shape& shape() const { return value().shape(); }
  std::int64_t size(int i) const { return value().size(i); }
  DType dtype() const { return value().dtype(); }
  const Stream& stream() const { return value().stream(); }

 private:
  friend class Saved;
  friend struct Node;
  friend Variable record(const char*, Tensor, std::vector<Variable>, BackwardRule);
  friend Variable with_remake(const Variable&, std::function<Tensor()>);
  friend struct Sweep;

  std::shared_ptr<State> state_;
};

/// Wraps an op's result; it becomes part of the tape only if some input requires a gradient.
Variable record(const char* op, Tensor value, std::vector<Variable> inputs, BackwardRule rule);

/// What a caller of backward() wants to be told.
struct BackwardHooks {
  /// A leaf's gradient is complete: all ops that use it have given theirs. Its Variable::key().
  std::function<void(const void* leaf)> leaf_done = {};
};

/// What a rule is told of its inputs: whether input i needs a gradient, and what other rules have
/// given it already.
class Needs {
 public:
  bool operator[](std::size_t i) const { return wanted_[i]; }
  std::size_t size() const { return wanted_.size(); }

  /// The gradient gathered for input i so far, handed over: the rule returns a sum that contains
  /// it. Undefined if there is none. Saves the pass over memory that adding it later would take.
  struct Gathered {
    Tensor grad;
    bool writable = false;  // nobody else looks at it: the sum may be written over it
  };
  Gathered take(std::size_t i);
  /// The hooks of the sweep, for a rule that sweeps over a tape of its own.
  const BackwardHooks& hooks() const { return *hooks_; }

 private:
  friend struct Sweep;
  std::vector<bool> wanted_;
  std::vector<Tensor*> gathered_;
  const BackwardHooks* hooks_ = nullptr;
};

/// Reverse-mode sweep from `root` (first-order). `grad` has root's shape; by default ones.
/// Adds into the gradients of all leaves that require one, and frees the tape's saved tensors: a
/// second sweep over the same tape throws Error. Throws ShapeError or DtypeError, naming the op,
/// when a rule returns a gradient that does not fit its input.
void backward(const Variable& root, const Tensor& grad = Tensor(), const BackwardHooks& hooks = {});

/// `x`, whose value `remake` can make again, bit by bit: ops that save it keep `remake` instead,
/// and the value can be freed between forward and backward.
Variable with_remake(const Variable& x, std::function<Tensor()> remake);

/// An input that a rule keeps for the backward pass: the tensor, or what makes it again. Made again
/// at most once for all rules that keep it, and freed with the last of them.
class Saved {
 public:
  explicit Saved(const Variable& x);
  const Tensor& get() const;
  const Shape& shape() const { return shape_; }

 private:
  friend class Variable;
  struct Remake;
  friend Variable with_remake(const Variable&, std::function<Tensor()>);
  Tensor tensor_;
  std::shared_ptr<Remake> remake_;
  Shape shape_;
};

}  // namespace hew::ag
