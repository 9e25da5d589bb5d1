#pragma once

#include <memory>
#include <vector>

#include "autograd/variable.h"

namespace hew::ag {

/// Where a gradient goes: to the rule of the op that made the value, or, for a leaf, to stay. Edges
/// of the tape hold slots and no values, so that only what rules save stays in memory.
struct Slot {
  Shape shape;
  DType dtype = DType::kFloat32;
  Stream stream;
  bool requires_grad = false;
  std::shared_ptr<Node> producer;  // null for a leaf
  Tensor grad;                     // of a leaf
};

/// One recorded op: edges to its inputs and the rule that maps gradients back over them.
struct Node {
  Node(const char* op_name, const std::vector<Variable>& op_inputs, BackwardRule op_rule);
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;
  /// Tears down with an explicit stack, so that a chain of any length does not overflow.
  ~Node();

  const char* op;
  std::vector<std::shared_ptr<Slot>> inputs;  // null for an undefined variable
  BackwardRule rule;                          // empty once it has run
};

struct Saved::Remake {
  std::function<Tensor()> make;
  Tensor made;
};

struct Variable::State {
  Tensor value;
  std::shared_ptr<Slot> slot;
  Variable working;                               // of a leaf; undefined until asked for
  std::shared_ptr<kernels::FoldedWeight> folded;  // of a leaf; null until asked for
  std::shared_ptr<Saved::Remake> remake;          // null unless the value can be made again
};

}  // namespace hew::ag
