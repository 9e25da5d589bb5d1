#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "core/tensor.h"

namespace hew::ag {

struct Node;

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
  /// The leaf's tensor for writing (optimizers, loading).
  Tensor& mutable_value();
  bool requires_grad() const;
  /// Gradient of a leaf, of value()'s shape and dtype; undefined before the first backward().
  Tensor& grad();
  const Tensor& grad() const;
  /// Forgets the gradient.
  void zero_grad() { grad() = Tensor(); }
  /// The same tensor, cut off the tape.
  Variable detach() const;

  const Shape& shape() const { return value().shape(); }
  std::int64_t size(int i) const { return value().size(i); }
  DType dtype() const { return value().dtype(); }
  const Stream& stream() const { return value().stream(); }

 private:
  friend struct Node;
  friend Variable record(
      const char*, Tensor, std::vector<Variable>,
      std::function<std::vector<Tensor>(const Tensor&, const std::vector<bool>&)>);
  friend void backward(const Variable&, const Tensor&);

  std::shared_ptr<State> state_;
};

/// A backward rule: (∂L/∂output, which inputs need a gradient) → ∂L/∂input in input order. Pure: it
/// closes over saved tensors, never over variables, and may leave what is not needed (or zero)
/// undefined. It may return a gradient of a broadcast shape (extra leading dimensions); the engine
/// sums it down.
using BackwardRule =
    std::function<std::vector<Tensor>(const Tensor& grad_output, const std::vector<bool>& needs)>;

/// Wraps an op's result; it becomes part of the tape only if some input requires a gradient.
Variable record(const char* op, Tensor value, std::vector<Variable> inputs, BackwardRule rule);

/// Reverse-mode sweep from `root` (first-order). `grad` has root's shape; by default ones.
/// Adds into the gradients of all leaves that require one, and frees the tape's saved tensors: a
/// second sweep over the same tape throws Error. Throws ShapeError or DtypeError, naming the op,
/// when a rule returns a gradient that does not fit its input.
void backward(const Variable& root, const Tensor& grad = Tensor());

}  // namespace hew::ag
