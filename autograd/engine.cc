#include <unordered_map>
#include <utility>
#include <vector>

#include "autograd/node.h"
#include "autograd/variable.h"
#include "core/error.h"
#include "core/profiler.h"
#include "kernels/elementwise.h"

namespace hew::ag {
namespace {

// A rule may hand one tensor to several inputs, so a tensor is written to only where nobody else
// holds it.
void accumulate(Tensor& gathered, const Tensor& grad) {
  if (!gathered.defined()) {
    gathered = grad;
  } else if (gathered.use_count() == 1) {
    kernels::add(gathered, grad, gathered, grad.stream());
  } else {
    Tensor sum = Tensor::empty(grad.shape(), grad.dtype(), grad.stream());
    kernels::add(gathered, grad, sum, grad.stream());
    gathered = std::move(sum);
  }
}

void add_to_leaf(Tensor& gathered, const Tensor& grad) {
  if (gathered.defined()) {
    kernels::add(gathered, grad, gathered, grad.stream());
  } else {
    gathered = grad.use_count() == 1 ? grad : grad.clone();
  }
}

// Sums a broadcast gradient down to the input's shape and checks what the rule returned.
Tensor fit(const Node& node, std::size_t index, Tensor grad) {
  const Slot& slot = *node.inputs[index];
  const bool leaf = slot.producer == nullptr;
  if (grad.shape() != slot.shape) {
    require<ShapeError>(grad.shape().rank() > slot.shape.rank(),
                        "[{}] gradient of input {} has shape {}, expected {}", node.op, index,
                        to_string(grad.shape()), to_string(slot.shape));
    Tensor sum = Tensor::empty(slot.shape, accumulator_of(grad.dtype()), slot.stream);
    kernels::sum_leading(grad, sum, slot.stream);
    grad = std::move(sum);
    if (!leaf && grad.dtype() != slot.dtype) {
      Tensor narrow = Tensor::empty(slot.shape, slot.dtype, slot.stream);
      kernels::cast(grad, narrow, slot.stream);
      grad = std::move(narrow);
    }
  }
  const bool fits =
      grad.dtype() == slot.dtype || (leaf && grad.dtype() == accumulator_of(slot.dtype));
  require<DtypeError>(fits, "[{}] gradient of input {} is {}, expected {}", node.op, index,
                      name_of(grad.dtype()), name_of(slot.dtype));
  return grad;
}

Node* producer_of(const std::shared_ptr<Slot>& slot) {
  return slot != nullptr && slot->requires_grad ? slot->producer.get() : nullptr;
}

bool is_wanted_leaf(const std::shared_ptr<Slot>& slot) {
  return slot != nullptr && slot->requires_grad && slot->producer == nullptr;
}

// Nodes reachable from root, each after all nodes that consume its output (Kahn's algorithm), and
// how many of them use each leaf.
struct Order {
  std::vector<Node*> nodes;
  std::unordered_map<const Slot*, std::int64_t> leaf_uses;
};

Order consumers_first(Node* root) {
  Order order;
  std::unordered_map<Node*, std::int64_t> consumers{{root, 0}};
  std::vector<Node*> stack{root};
  while (!stack.empty()) {
    Node* node = stack.back();
    stack.pop_back();
    for (const std::shared_ptr<Slot>& input : node->inputs) {
      if (is_wanted_leaf(input))
        ++order.leaf_uses[input.get()];
      Node* producer = producer_of(input);
      if (producer != nullptr && consumers[producer]++ == 0)
        stack.push_back(producer);
    }
  }
  order.nodes.reserve(consumers.size());
  stack.push_back(root);
  while (!stack.empty()) {
    Node* node = stack.back();
    stack.pop_back();
    order.nodes.push_back(node);
    for (const std::shared_ptr<Slot>& input : node->inputs) {
      Node* producer = producer_of(input);
      if (producer != nullptr && --consumers[producer] == 0)
        stack.push_back(producer);
    }
  }
  return order;
}

}  // namespace

Needs::Gathered Needs::take(std::size_t i) {
  if (!wanted_[i] || !gathered_[i]->defined())
    return {};
  const bool writable = gathered_[i]->use_count() == 1;
  return {.grad = std::exchange(*gathered_[i], Tensor()), .writable = writable};
}

// One backward().
struct Sweep {
  const BackwardHooks& hooks;
  std::unordered_map<Node*, Tensor> pending = {};  // gradients of their outputs

  Needs needs_of(const Node& node) {
    Needs needs;
    needs.hooks_ = &hooks;
    for (const std::shared_ptr<Slot>& input : node.inputs) {
      const bool wanted = input != nullptr && input->requires_grad;
      Node* producer = producer_of(input);
      needs.wanted_.push_back(wanted);
      needs.gathered_.push_back(producer != nullptr ? &pending[producer]
                                : wanted            ? &input->grad
                                                    : nullptr);
    }
    return needs;
  }

  void run(Node& node) {
    const auto found = pending.find(&node);
    Tensor grad_output;
    if (found != pending.end()) {
      grad_output = std::move(found->second);
      pending.erase(found);
    }
    if (!grad_output.defined())
      return;  // every consumer said "zero"
    require<Error>(static_cast<bool>(node.rule), "[{}] backward ran twice over one tape", node.op);
    const NamedRange range(grad_output.stream(), node.op);
    Needs needs = needs_of(node);
    std::vector<Tensor> grads = node.rule(grad_output, needs);
    node.rule = nullptr;
    require<ShapeError>(grads.size() == needs.size(), "[{}] rule returned {} gradients for {}",
                        node.op, grads.size(), needs.size());
    for (std::size_t i = 0; i < grads.size(); ++i) {
      if (!needs[i] || !grads[i].defined())
        continue;
      const Tensor fitted = fit(node, i, std::exchange(grads[i], Tensor()));
      if (producer_of(node.inputs[i]) != nullptr) {
        accumulate(*needs.gathered_[i], fitted);
      } else {
        add_to_leaf(*needs.gathered_[i], fitted);
      }
    }
  }

  static std::shared_ptr<Slot> slot_of(const Variable& v) { return v.state_->slot; }
};

void backward(const Variable& root, const Tensor& grad, const BackwardHooks& hooks) {
  require<Error>(root.requires_grad(), "[backward] the root does not require a gradient");
  Tensor seed = grad;
  if (!seed.defined()) {
    seed = Tensor::empty(root.shape(), root.dtype(), root.stream());
    kernels::fill(1.0, seed, root.stream());
  }
  require<ShapeError>(seed.shape() == root.shape(), "[backward] gradient has shape {}, expected {}",
                      to_string(seed.shape()), to_string(root.shape()));
  const std::shared_ptr<Slot> slot = Sweep::slot_of(root);
  if (slot->producer == nullptr) {
    add_to_leaf(slot->grad, seed.clone());
    if (hooks.leaf_done)
      hooks.leaf_done(slot.get());
    return;
  }
  Sweep sweep{.hooks = hooks};
  sweep.pending[slot->producer.get()] = std::move(seed);
  Order order = consumers_first(slot->producer.get());
  for (Node* node : order.nodes) {
    sweep.run(*node);
    if (!hooks.leaf_done)
      continue;
    for (const std::shared_ptr<Slot>& input : node->inputs) {
      if (is_wanted_leaf(input) && --order.leaf_uses[input.get()] == 0)
        hooks.leaf_done(input.get());
    }
  }
}

}  // namespace hew::ag
