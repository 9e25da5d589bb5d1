#include "autograd/variable.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "autograd/node.h"
#include "kernels/elementwise.h"
#include "kernels/folded_weight.h"

namespace hew::ag {
namespace {

// In place: ops that hold it see that it is gone.
void drop(const std::shared_ptr<kernels::FoldedWeight>& folded) {
  if (folded != nullptr)
    folded->drop();
}

}  // namespace

Variable::Variable(Tensor value, bool requires_grad) : state_(std::make_shared<State>()) {
  state_->slot = std::make_shared<Slot>(Slot{.shape = value.shape(),
                                             .dtype = value.dtype(),
                                             .stream = value.stream(),
                                             .requires_grad = requires_grad,
                                             .producer = nullptr,
                                             .grad = {}});
  state_->value = std::move(value);
}

const Tensor& Variable::value() const {
  assert(state_ != nullptr);
  return state_->value;
}

Tensor& Variable::mutable_value() {
  assert(state_ != nullptr && state_->slot->producer == nullptr);
  state_->working = Variable();
  drop(state_->folded);
  return state_->value;
}

bool Variable::requires_grad() const {
  return state_ != nullptr && state_->slot->requires_grad;
}

Tensor& Variable::grad() {
  assert(state_ != nullptr);
  return state_->slot->grad;
}

const Tensor& Variable::grad() const {
  assert(state_ != nullptr);
  return state_->slot->grad;
}

Variable Variable::detach() const {
  return Variable(value());
}

Variable Variable::working(DType dtype) const {
  assert(state_ != nullptr && state_->slot->producer == nullptr);
  if (dtype == state_->value.dtype())
    return *this;
  if (!state_->working || state_->working.dtype() != dtype) {
    Tensor copy = Tensor::empty(shape(), dtype, stream());
    kernels::cast(value(), copy, stream());
    Variable leaf(copy);
    leaf.state_->slot = state_->slot;
    state_->working = std::move(leaf);
  }
  return state_->working;
}

Variable::Update Variable::update() {
  assert(state_ != nullptr && state_->slot->producer == nullptr);
  drop(state_->folded);
  if (!state_->working)
    return {.value = state_->value, .working = {}};
  drop(state_->working.state_->folded);
  return {.value = state_->value, .working = state_->working.value()};
}

std::shared_ptr<kernels::FoldedWeight> Variable::folded() const {
  assert(state_ != nullptr && state_->slot->producer == nullptr);
  if (state_->folded == nullptr)
    state_->folded = std::make_shared<kernels::FoldedWeight>();
  return state_->folded;
}

const void* Variable::key() const {
  return state_ == nullptr ? nullptr : state_->slot.get();
}

Variable record(const char* op, Tensor value, std::vector<Variable> inputs, BackwardRule rule) {
  const bool needed = std::any_of(inputs.begin(), inputs.end(),
                                  [](const Variable& v) { return v.requires_grad(); });
  Variable output(std::move(value), needed);
  if (needed) {
    output.state_->slot->producer = std::make_shared<Node>(op, inputs, std::move(rule));
  }
  return output;
}

Variable with_remake(const Variable& x, std::function<Tensor()> remake) {
  x.state_->remake = std::make_shared<Saved::Remake>();
  x.state_->remake->make = std::move(remake);
  return x;
}

Saved::Saved(const Variable& x) : remake_(x.state_->remake), shape_(x.shape()) {
  if (remake_ == nullptr)
    tensor_ = x.value();
}

const Tensor& Saved::get() const {
  if (remake_ == nullptr)
    return tensor_;
  if (!remake_->made.defined())
    remake_->made = remake_->make();
  return remake_->made;
}

Node::Node(const char* op_name, const std::vector<Variable>& op_inputs, BackwardRule op_rule)
    : op(op_name), rule(std::move(op_rule)) {
  inputs.reserve(op_inputs.size());
  for (const Variable& input : op_inputs) {
    inputs.push_back(input.state_ == nullptr ? nullptr : input.state_->slot);
  }
}

Node::~Node() {
  std::vector<std::shared_ptr<Slot>> stack;
  auto take_inputs = [&stack](std::vector<std::shared_ptr<Slot>>& from) {
    for (std::shared_ptr<Slot>& input : from) {
      if (input != nullptr)
        stack.push_back(std::move(input));
    }
    from.clear();
  };
  take_inputs(inputs);
  while (!stack.empty()) {
    const std::shared_ptr<Slot> slot = std::move(stack.back());
    stack.pop_back();
    // Sole owner of the slot and of its node: hollow the node out before it dies.
    if (slot.use_count() == 1 && slot->producer != nullptr && slot->producer.use_count() == 1) {
      take_inputs(slot->producer->inputs);
    }
  }
}

}  // namespace hew::ag
