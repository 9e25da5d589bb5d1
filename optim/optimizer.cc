#include "optim/optimizer.h"

#include <algorithm>
#include <set>

#include "core/error.h"
#include "kernels/blocks.h"
#include "kernels/elementwise.h"

namespace hew::optim {
namespace {

Tensor as_dtype(const Tensor& tensor, DType dtype) {
  if (tensor.dtype() == dtype)
    return tensor;
  Tensor out = Tensor::empty(tensor.shape(), dtype, tensor.stream());
  kernels::cast(tensor, out, tensor.stream());
  return out;
}

// What moves numbers about computes in no bfloat16 on the CPU; there and back is exact.
Tensor widened(const Tensor& moment) {
  return as_dtype(moment, accumulator_of(moment.dtype()));
}

// Moves a tensor out of a saved state, as a copy on `stream`.
Tensor take(std::map<std::string, Tensor>& given, const std::string& name, DType dtype,
            const Shape& shape, const Stream& stream) {
  const auto found = given.extract(name);
  require<DataError>(!found.empty(), "[optimizer] the saved state has no {}", name);
  const Tensor& saved = found.mapped();
  require<DataError>(saved.dtype() == dtype && saved.shape() == shape,
                     "[optimizer] saved {} is {} {}, expected {} {}", name, name_of(saved.dtype()),
                     to_string(saved.shape()), name_of(dtype), to_string(shape));
  Tensor out = Tensor::empty(shape, dtype, stream);
  out.copy_from(saved);
  return out;
}

void require_fits(const ag::Parameter& parameter, const Shape& state) {
  require<ShapeError>(parameter.value().shape() == state,
                      "[optimizer] {} has shape {}, but its moments have {}", parameter.name,
                      to_string(parameter.value().shape()), to_string(state));
}

}  // namespace

Optimizer::Optimizer(std::vector<ag::Parameter*> parameters, std::vector<std::string> slots,
                     std::optional<DType> moments)
    : slots_(std::move(slots)), moments_(moments) {
  set_parameters(std::move(parameters));
}

Optimizer::State Optimizer::fresh(const ag::Parameter& parameter) const {
  const Tensor& value = parameter.value();
  State state{.shape = value.shape(), .moments = {}, .birth = {}, .births = {}};
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    state.moments.push_back(Tensor::zeros(value.shape(), moment_dtype(value), value.stream()));
  }
  set_births(state, {steps_}, value.stream());
  return state;
}

void Optimizer::set_births(State& state, std::vector<std::int64_t> births, const Stream& stream) {
  state.birth = Tensor::from(births, {std::ssize(births)}, stream);
  state.births = std::move(births);
}

void Optimizer::set_parameters(std::vector<ag::Parameter*> parameters) {
  std::map<std::string, State> states;
  for (const ag::Parameter* p : parameters) {
    const auto known = states_.find(p->name);
    State state = known == states_.end() ? fresh(*p) : known->second;
    require_fits(*p, state.shape);
    require<ConfigError>(states.emplace(p->name, std::move(state)).second,
                         "[optimizer] two parameters are called {}", p->name);
  }
  states_ = std::move(states);
  parameters_ = std::move(parameters);
}

void Optimizer::step(double lr, const ConstView& grad_scale) {
  std::vector<Item> items;
  std::vector<Item> idle;
  for (ag::Parameter* p : parameters_) {
    State& state = find(p->name);
    require_fits(*p, state.shape);
    const bool moves = p->var.requires_grad() && p->var.grad().defined();
    (moves ? items : idle).push_back({.parameter = p, .state = &state});
  }
  if (!items.empty())
    update(items, lr, grad_scale);
  // Who sits an update out does not age: its birth moves along.
  for (const auto& [parameter, state] : idle) {
    std::vector<std::int64_t> births = state->births;
    for (std::int64_t& birth : births) ++birth;
    set_births(*state, std::move(births), parameter->value().stream());
  }
  ++steps_;
}

void Optimizer::remap(const std::string& name, std::span<const std::int64_t> source) {
  const Tensor& value = parameter(name).value();
  State& state = find(name);
  const auto blocks = static_cast<std::int64_t>(source.size());
  require<ShapeError>(value.shape().rank() > 0 && value.size(0) == blocks,
                      "[remap] {} has shape {}, but {} blocks were given", name,
                      to_string(value.shape()), blocks);
  for (const std::int64_t from : source) {
    require<ShapeError>(from >= -1 && from < state.shape[0],
                        "[remap] {}: source {} is not one of its {} old blocks", name, from,
                        state.shape[0]);
  }
  const std::vector<std::int64_t>& old_births = state.births;
  std::vector<std::int64_t> births(source.size(), steps_);
  for (std::size_t p = 0; p < source.size(); ++p) {
    if (source[p] == -1)
      continue;
    births[p] = old_births[old_births.size() == 1 ? 0 : static_cast<std::size_t>(source[p])];
  }
  State mapped{.shape = value.shape(), .moments = {}, .birth = {}, .births = {}};
  set_births(mapped, std::move(births), value.stream());
  const Tensor places = Tensor::from(source, {blocks}, value.stream());
  for (const Tensor& old : state.moments) {
    const Tensor wide = widened(old);
    Tensor moved = Tensor::zeros(value.shape(), wide.dtype(), value.stream());
    kernels::move_blocks(wide, places, moved, value.stream());
    mapped.moments.push_back(as_dtype(moved, old.dtype()));
  }
  state = std::move(mapped);
}

void Optimizer::convert(const std::string& name,
                        const std::function<Tensor(const Tensor&)>& change) {
  const ag::Parameter& p = parameter(name);
  State& state = find(name);
  require<ShapeError>(state.birth.numel() == 1, "[optimizer] {} has blocks of several ages", name);
  std::vector<Tensor> moments;
  for (const Tensor& old : state.moments) {
    require_fits(p, moments.emplace_back(as_dtype(change(widened(old)), old.dtype())).shape());
  }
  state.moments = std::move(moments);
  state.shape = p.value().shape();
}

const Tensor& Optimizer::moment(const std::string& name, const std::string& slot) const {
  const State& state = find(name);
  const auto found = std::find(slots_.begin(), slots_.end(), slot);
  require<ConfigError>(found != slots_.end(), "[optimizer] has no moment called {}", slot);
  return state.moments[static_cast<std::size_t>(found - slots_.begin())];
}

const Tensor& Optimizer::birth(const std::string& name) const {
  return find(name).birth;
}

NamedTensors Optimizer::state() const {
  NamedTensors out;
  out.emplace_back("steps",
                   Tensor::from(std::vector<std::int64_t>{steps_}, {1}, make_cpu_stream()));
  for (const auto& [name, state] : states_) {
    out.emplace_back("birth/" + name, state.birth);
    for (std::size_t i = 0; i < slots_.size(); ++i) {
      out.emplace_back(slots_[i] + "/" + name, state.moments[i]);
    }
  }
  return out;
}

Optimizer::State Optimizer::taken(const ag::Parameter& parameter, std::int64_t steps,
                                  std::map<std::string, Tensor>& given) const {
  const Tensor& value = parameter.value();
  State loaded{.shape = value.shape(), .moments = {}, .birth = {}, .births = {}};
  const std::string birth = "birth/" + parameter.name;
  const std::int64_t ages = given.contains(birth) ? given.at(birth).numel() : 1;
  const bool by_block = value.shape().rank() > 0 && ages == value.size(0);
  const Tensor births =
      take(given, birth, DType::kInt64, {by_block ? value.size(0) : 1}, value.stream());
  set_births(loaded, births.to_vector<std::int64_t>(), value.stream());
  for (const std::int64_t born : loaded.births) {
    require<DataError>(born <= steps, "[optimizer] saved {} holds {}, past step {}", birth, born,
                       steps);
  }
  for (const std::string& slot : slots_) {
    loaded.moments.push_back(take(given, slot + "/" + parameter.name, moment_dtype(value),
                                  value.shape(), value.stream()));
  }
  return loaded;
}

void Optimizer::load(const NamedTensors& state) {
  std::map<std::string, Tensor> given(state.begin(), state.end());
  const std::int64_t steps =
      take(given, "steps", DType::kInt64, {1}, make_cpu_stream()).to_vector<std::int64_t>()[0];
  std::map<std::string, State> states;
  for (const ag::Parameter* p : parameters_) states[p->name] = taken(*p, steps, given);
  require<DataError>(given.empty(), "[optimizer] the saved state has {}, which no parameter wants",
                     given.empty() ? "" : given.begin()->first);
  states_ = std::move(states);
  steps_ = steps;
}

void Optimizer::replace(const std::string& name, const NamedTensors& state) {
  std::map<std::string, Tensor> given(state.begin(), state.end());
  State replacement = taken(parameter(name), steps_, given);
  require<DataError>(given.empty(), "[optimizer] the state of {} has {} too", name,
                     given.empty() ? "" : given.begin()->first);
  find(name) = std::move(replacement);
}

const Optimizer::State& Optimizer::find(const std::string& name) const {
  const auto found = states_.find(name);
  require<ConfigError>(found != states_.end(), "[optimizer] has no parameter called {}", name);
  return found->second;
}

Optimizer::State& Optimizer::find(const std::string& name) {
  return const_cast<State&>(std::as_const(*this).find(name));
}

const ag::Parameter& Optimizer::parameter(const std::string& name) const {
  const auto found = std::find_if(parameters_.begin(), parameters_.end(),
                                  [&name](const ag::Parameter* p) { return p->name == name; });
  require<ConfigError>(found != parameters_.end(), "[optimizer] has no parameter called {}", name);
  return **found;
}

}  // namespace hew::optim
