#include "autograd/variable.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "autograd/node.h"

namespace hew::ag {

Variable::Variable(Tensor value, bool requires_grad) : state_(std::make_shared<State>()) {
  state_->value = std::move(value);
  state_->requires_grad = requires_grad;
}

const Tensor& Variable::value() const {
  assert(state_ != nullptr);
  return state_->value;
}

Tensor& Variable::mutable_value() {
  assert(state_ != nullptr && state_->producer == nullptr);
  return state_->value;
}

bool Variable::requires_grad() const {
  return state_ != nullptr && state_->requires_grad;
}

Tensor& Variable::grad() {
  assert(state_ != nullptr);
  return state_->grad;
}

const Tensor& Variable::grad() const {
  assert(state_ != nullptr);
  return state_->grad;
}

Variable Variable::detach() const {
  return Variable(value());
}

Variable record(const char* op, Tensor value, std::vector<Variable> inputs, BackwardRule rule) {
  const bool needed = std::any_of(inputs.begin(), inputs.end(),
                                  [](const Variable& v) { return v.requires_grad(); });
  Variable output(std::move(value), needed);
  if (needed) {
    output.state_->producer = std::make_shared<Node>(op, std::move(inputs), std::move(rule));
  }
  return output;
}

Node::~Node() {
  std::vector<std::shared_ptr<Variable::State>> stack;
  auto take_inputs = [&stack](std::vector<Variable>& from) {
    for (Variable& input : from) {
      if (input.state_ != nullptr)
        stack.push_back(std::move(input.state_));
    }
    from.clear();
  };
  take_inputs(inputs);
  while (!stack.empty()) {
    const std::shared_ptr<Variable::State> state = std::move(stack.back());
    stack.pop_back();
    // Sole owner of the state and of its node: hollow the node out before it dies.
    if (state.use_count() == 1 && state->producer != nullptr && state->producer.use_count() == 1) {
      take_inputs(state->producer->inputs);
    }
  }
}

}  // namespace hew::ag
