#include <unordered_map>
#include <utility>
#include <vector>

#include "autograd/node.h"
#include "autograd/variable.h"
#include "core/error.h"
#include "kernels/elementwise.h"

namespace hew::ag {
namespace {

// A gradient under accumulation. A rule may hand one tensor to several inputs, so a tensor is
// written to only once the engine has made it.
struct Pending {
  Tensor grad;
  bool owned = false;
};

void accumulate(Pending& pending, const Tensor& grad) {
  if (!pending.grad.defined()) {
    pending.grad = grad;
  } else if (pending.owned) {
    kernels::add(pending.grad, grad, pending.grad, grad.stream());
  } else {
    Tensor sum = Tensor::empty(grad.shape(), grad.dtype(), grad.stream());
    kernels::add(pending.grad, grad, sum, grad.stream());
    pending = {.grad = std::move(sum), .owned = true};
  }
}

// Sums a broadcast gradient down to the input's shape and checks what the rule returned.
Tensor fit(const Node& node, std::size_t index, const Tensor& grad) {
  const Tensor& value = node.inputs[index].value();
  require<DtypeError>(grad.dtype() == value.dtype(), "[{}] gradient of input {} is {}, expected {}",
                      node.op, index, name_of(grad.dtype()), name_of(value.dtype()));
  if (grad.shape() == value.shape())
    return grad;
  require<ShapeError>(grad.shape().rank() > value.shape().rank(),
                      "[{}] gradient of input {} has shape {}, expected {}", node.op, index,
                      to_string(grad.shape()), to_string(value.shape()));
  Tensor sum = Tensor::empty(value.shape(), value.dtype(), value.stream());
  kernels::sum_leading(grad, sum, value.stream());
  return sum;
}

// Nodes reachable from root, each after all nodes that consume its output (Kahn's algorithm).
std::vector<Node*> consumers_first(Node* root, const auto& producer_of) {
  std::unordered_map<Node*, std::int64_t> consumers{{root, 0}};
  std::vector<Node*> stack{root};
  while (!stack.empty()) {
    Node* node = stack.back();
    stack.pop_back();
    for (const Variable& input : node->inputs) {
      Node* producer = producer_of(input);
      if (producer == nullptr)
        continue;
      if (consumers[producer]++ == 0)
        stack.push_back(producer);
    }
  }
  std::vector<Node*> order;
  order.reserve(consumers.size());
  stack.push_back(root);
  while (!stack.empty()) {
    Node* node = stack.back();
    stack.pop_back();
    order.push_back(node);
    for (const Variable& input : node->inputs) {
      Node* producer = producer_of(input);
      if (producer != nullptr && --consumers[producer] == 0)
        stack.push_back(producer);
    }
  }
  return order;
}

}  // namespace

void backward(const Variable& root, const Tensor& grad) {
  require<Error>(root.requires_grad(), "[backward] the root does not require a gradient");
  Tensor seed = grad;
  if (!seed.defined()) {
    seed = Tensor::empty(root.shape(), root.dtype(), root.stream());
    kernels::fill(1.0, seed, root.stream());
  }
  require<ShapeError>(seed.shape() == root.shape(), "[backward] gradient has shape {}, expected {}",
                      to_string(seed.shape()), to_string(root.shape()));
  auto add_to_leaf = [](const std::shared_ptr<Variable::State>& state, const Tensor& g) {
    if (state->grad.defined()) {
      kernels::add(state->grad, g, state->grad, g.stream());
    } else {
      state->grad = g.use_count() == 1 ? g : g.clone();
    }
  };
  auto producer_of = [](const Variable& v) -> Node* {
    return v.requires_grad() ? v.state_->producer.get() : nullptr;
  };
  if (producer_of(root) == nullptr)
    return add_to_leaf(root.state_, seed.clone());

  std::unordered_map<Node*, Pending> pending;
  pending[producer_of(root)].grad = std::move(seed);
  for (Node* node : consumers_first(producer_of(root), producer_of)) {
    const auto found = pending.find(node);
    const Tensor grad_output = found == pending.end() ? Tensor() : std::move(found->second.grad);
    if (found != pending.end())
      pending.erase(found);
    if (!grad_output.defined())
      continue;  // every consumer said "zero"
    require<Error>(static_cast<bool>(node->rule), "[{}] backward ran twice over one tape",
                   node->op);
    std::vector<bool> needs;
    needs.reserve(node->inputs.size());
    for (const Variable& input : node->inputs) needs.push_back(input.requires_grad());
    std::vector<Tensor> grads = node->rule(grad_output, needs);
    node->rule = nullptr;
    require<ShapeError>(grads.size() == needs.size(), "[{}] rule returned {} gradients for {}",
                        node->op, grads.size(), needs.size());
    for (std::size_t i = 0; i < grads.size(); ++i) {
      if (!needs[i] || !grads[i].defined())
        continue;
      Tensor fitted = fit(*node, i, grads[i]);
      grads[i] = Tensor();
      if (Node* producer = producer_of(node->inputs[i])) {
        accumulate(pending[producer], fitted);
      } else {
        add_to_leaf(node->inputs[i].state_, fitted);
      }
    }
  }
}

}  // namespace hew::ag
