#include "optim/weight_average.h"

#include "core/error.h"
#include "kernels/average.h"
#include "kernels/blocks.h"

namespace hew::optim {

WeightAverage::WeightAverage(const std::vector<ag::Parameter*>& parameters) {
  for (const ag::Parameter* p : parameters) {
    require<ConfigError>(averages_.emplace(p->name, p->value().clone()).second,
                         "[weight_average] two parameters are called {}", p->name);
  }
}

void WeightAverage::update(const std::vector<ag::Parameter*>& parameters, double decay) {
  std::vector<kernels::AverageTensors> tensors;
  for (const ag::Parameter* p : parameters) {
    Tensor& average = find(p->name);
    require<ShapeError>(p->value().shape() == average.shape(),
                        "[weight_average] {} has shape {}, but its average has {}", p->name,
                        to_string(p->value().shape()), to_string(average.shape()));
    tensors.push_back({.value = p->value(), .average = average});
  }
  if (!parameters.empty())
    kernels::move_averages(tensors, decay, parameters.front()->var.stream());
}

void WeightAverage::remap(const ag::Parameter& parameter, std::span<const std::int64_t> source) {
  const Tensor& value = parameter.value();
  Tensor& average = find(parameter.name);
  require<ShapeError>(value.shape().rank() > 0 && value.size(0) == std::ssize(source),
                      "[weight_average] {} has shape {}, but {} blocks were given", parameter.name,
                      to_string(value.shape()), source.size());
  for (const std::int64_t from : source) {
    require<ShapeError>(from >= -1 && from < average.size(0),
                        "[weight_average] {}: source {} is not one of its {} old blocks",
                        parameter.name, from, average.size(0));
  }
  Tensor moved = value.clone();
  const Stream& stream = value.stream();
  kernels::move_blocks(average, Tensor::from(source, {std::ssize(source)}, stream), moved, stream);
  average = moved;
}

void WeightAverage::convert(const std::string& name,
                            const std::function<Tensor(const Tensor&)>& change) {
  Tensor& average = find(name);
  average = change(average);
}

void WeightAverage::forget(const std::string& name) {
  averages_.erase(name);
}

const Tensor& WeightAverage::operator[](const std::string& name) const {
  const auto found = averages_.find(name);
  require<ConfigError>(found != averages_.end(), "[weight_average] knows no parameter called {}",
                       name);
  return found->second;
}

Tensor& WeightAverage::find(const std::string& name) {
  const auto found = averages_.find(name);
  require<ConfigError>(found != averages_.end(), "[weight_average] knows no parameter called {}",
                       name);
  return found->second;
}

NamedTensors WeightAverage::state() const {
  return {averages_.begin(), averages_.end()};
}

void WeightAverage::load(const NamedTensors& state) {
  std::map<std::string, Tensor> given(state.begin(), state.end());
  std::map<std::string, Tensor> loaded;
  for (const auto& [name, average] : averages_) {
    const auto found = given.extract(name);
    require<DataError>(!found.empty(), "[weight_average] there is no saved average of {}", name);
    const Tensor& saved = found.mapped();
    require<DataError>(saved.shape() == average.shape() && saved.dtype() == average.dtype(),
                       "[weight_average] the saved average of {} is {} {}, expected {} {}", name,
                       name_of(saved.dtype()), to_string(saved.shape()), name_of(average.dtype()),
                       to_string(average.shape()));
    Tensor copy = Tensor::empty(average.shape(), average.dtype(), average.stream());
    copy.copy_from(saved);
    loaded.emplace(name, copy);
  }
  require<DataError>(given.empty(), "[weight_average] no parameter wants the saved average of {}",
                     given.empty() ? "" : given.begin()->first);
  averages_ = std::move(loaded);
}

}  // namespace hew::optim
