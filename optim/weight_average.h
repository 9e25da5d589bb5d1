#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "optim/optimizer.h"

namespace hew::optim {

/// Exponential moving averages of parameters, weights and scores alike, by name. An average has its
/// parameter's storage: for a block-sparse one [nnzb, b, b], live blocks only.
class WeightAverage {
 public:
  /// Averages start at the values. Throws ConfigError on a duplicate name.
  explicit WeightAverage(const std::vector<ag::Parameter*>& parameters);

  /// average ← decay·average + (1 − decay)·value, of all parameters that have an average. Throws
  /// ShapeError where a value has changed its shape without remap() or convert().
  void update(const std::vector<ag::Parameter*>& parameters, double decay);

  /// After a mask refresh has replaced a parameter's value: new block p takes the average of old
  /// block source[p], or, where that is −1, starts at its weight. Throws ShapeError.
  void remap(const ag::Parameter& parameter, std::span<const std::int64_t> source);
  /// Replaces the average by change(average), for a parameter whose storage has changed in another
  /// way.
  void convert(const std::string& name, const std::function<Tensor(const Tensor&)>& change);
  /// The parameter is gone (scores that have frozen); nothing is done where it has no average.
  void forget(const std::string& name);

  /// Throws ConfigError on an unknown name.
  const Tensor& operator[](const std::string& name) const;

  /// By parameter name; shares memory.
  NamedTensors state() const;
  /// Copies in what state() gave, for the same names and shapes. Throws DataError that names the
  /// tensor which is missing, left over, or of another shape or dtype; then nothing is changed.
  void load(const NamedTensors& state);

 private:
  Tensor& find(const std::string& name);

  std::map<std::string, Tensor> averages_;
};

}  // namespace hew::optim
