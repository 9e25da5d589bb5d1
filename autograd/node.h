#pragma once

#include <memory>
#include <vector>

#include "autograd/variable.h"

namespace hew::ag {

/// One recorded op: edges to its inputs and the rule that maps gradients back over them.
struct Node {
  Node(const char* op_name, std::vector<Variable> op_inputs, BackwardRule op_rule)
      : op(op_name), inputs(std::move(op_inputs)), rule(std::move(op_rule)) {}
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;
  /// Tears down with an explicit stack, so that a chain of any length does not overflow.
  ~Node();

  const char* op;
  std::vector<Variable> inputs;
  BackwardRule rule;  // empty once it has run
};

struct Variable::State {
  Tensor value;
  Tensor grad;
  bool requires_grad = false;
  std::shared_ptr<Node> producer;  // null for a leaf
};

}  // namespace hew::ag
