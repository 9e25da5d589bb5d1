#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "autograd/parameter.h"

namespace hew::optim {

/// Tensors by name, as a checkpoint stores them.
using NamedTensors = std::vector<std::pair<std::string, Tensor>>;

/// Updates parameters from their gradients and owns what it remembers of them (the moments), which
/// has the parameter's own storage: for a block-sparse parameter [nnzb, b, b], live blocks only.
/// Updates are numbered from 0. State is kept by parameter name; names are unique.
class Optimizer {
 public:
  /// `slots` names the moments, each of the value's shape, zero at first, and of the dtype
  /// `moments`, by default the value's. Pointers must stay valid until set_parameters(). Throws
  /// ConfigError on a duplicate name.
  Optimizer(std::vector<ag::Parameter*> parameters, std::vector<std::string> slots,
            std::optional<DType> moments = std::nullopt);
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;
  virtual ~Optimizer() = default;

  /// One update with grad_scale·gradient; grad_scale is float64 [] on the parameters' device, empty
  /// for 1, and where it is not finite no value and no moment changes. A parameter whose gradient
  /// is undefined, or that does not require one, is left alone and does not age (as in PyTorch); a
  /// gradient of zeros still moves it. Throws ShapeError, before anything changes, where a value
  /// has changed its shape without remap() or convert().
  void step(double lr, const ConstView& grad_scale = {});
  /// Updates made so far, which is also the index of the coming one.
  std::int64_t steps() const { return steps_; }

  /// After a mask refresh has replaced a parameter's value: new block p takes moments and birth of
  /// old block source[p], or, where that is −1, zero moments and the coming update as its birth.
  /// Throws ShapeError unless source fits both the old and the new leading dimension.
  void remap(const std::string& name, std::span<const std::int64_t> source);
  /// Replaces each moment by change(moment), for a parameter whose storage has changed in another
  /// way (a dense master folded into live blocks). `change` is given moments in bfloat16 as
  /// float32. Throws ShapeError if the results do not have the shape of the value.
  void convert(const std::string& name, const std::function<Tensor(const Tensor&)>& change);
  /// Takes another set of parameters: names known already keep their state, new ones start with
  /// zeros, the rest is forgotten. Throws ShapeError where kept moments do not fit.
  void set_parameters(std::vector<ag::Parameter*> parameters);

  /// Moment `slot` of a parameter. Throws ConfigError on an unknown name.
  const Tensor& moment(const std::string& name, const std::string& slot) const;
  /// Update at which each block was born, int64: [1] as long as all are of one age, else [nnzb].
  const Tensor& birth(const std::string& name) const;

  /// "steps" and, for every parameter, "birth/NAME" (int64) and "SLOT/NAME"; shares memory.
  NamedTensors state() const;
  /// Copies in what state() gave, for parameters of the same names and shapes. Throws DataError
  /// that names the tensor which is missing, left over, of another shape or dtype, or has a block
  /// that is born after the steps done; then nothing is changed.
  void load(const NamedTensors& state);
  /// Copies in the state of one parameter, "birth/NAME" and every "SLOT/NAME", whose value may have
  /// changed its shape. Throws like load().
  void replace(const std::string& name, const NamedTensors& state);

 protected:
  struct State {
    Shape shape;                       // of the value that this state belongs to
    std::vector<Tensor> moments;       // one per slot, of that shape
    Tensor birth;                      // int64 [1] or [shape[0]]
    std::vector<std::int64_t> births;  // the same, on the host
  };
  struct Item {
    ag::Parameter* parameter;
    State* state;
  };
  /// One update of some parameters, at least one, whose gradients are defined.
  virtual void update(std::span<const Item> items, double lr, const ConstView& grad_scale) = 0;

 private:
  State taken(const ag::Parameter& parameter, std::int64_t steps,
              std::map<std::string, Tensor>& given) const;
  static void set_births(State& state, std::vector<std::int64_t> births, const Stream& stream);
  DType moment_dtype(const Tensor& value) const { return moments_.value_or(value.dtype()); }
  const State& find(const std::string& name) const;
  State& find(const std::string& name);
  State fresh(const ag::Parameter& parameter) const;
  const ag::Parameter& parameter(const std::string& name) const;

  std::vector<ag::Parameter*> parameters_;
  std::vector<std::string> slots_;
  std::optional<DType> moments_;
  std::map<std::string, State> states_;
  std::int64_t steps_ = 0;
};

}  // namespace hew::optim
