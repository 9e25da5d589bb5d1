#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "dist/comm.h"
#include "optim/clip.h"
#include "optim/make_optimizer.h"

namespace hew::train {

/// What clipping by global norm asks for, over all ranks' slices. Stays on the device like
/// optim::GradientNorm; norm() and bad() wait for it.
class SlicedNorm {
 public:
  /// All float64: kernels::global_norm of the ranks' norms [3 + ranks], and of every rank the index
  /// of its first bad gradient, or −1 [ranks].
  SlicedNorm(Tensor result, Tensor bad, std::vector<const ag::Parameter*> parameters);
  explicit SlicedNorm(optim::GradientNorm whole);

  double norm() const;
  /// The first parameter whose gradient holds a NaN or an infinity, the same on all ranks.
  const ag::Parameter* bad() const;
  /// float64 [], on the device, as long as this object lives.
  ConstView scale() const;

 private:
  std::unique_ptr<optim::GradientNorm> whole_;  // where nothing is sliced
  Tensor result_;
  Tensor bad_;
  std::vector<const ag::Parameter*> parameters_;
};

/// The optimizer of one rank of many. Sharded (ZeRO stage 1: Rajbhandari et al. 2020, section 5.1)
/// it keeps moments of its slice of every parameter only (dist/slices.h), updates that, and gathers
/// the others' slices of the values; else it is the recipe's optimizer itself. Checkpoints are the
/// same either way. All functions but steps(), state_bytes() and state_names() are collective.
class RankOptimizer {
 public:
  /// Sharded where the recipe says so and there are several ranks. `comm` must outlive it;
  /// parameters as for optim::Optimizer.
  RankOptimizer(const optim::OptimConfig& config, std::vector<ag::Parameter*> parameters,
                dist::Communicator& comm);
  RankOptimizer(const RankOptimizer&) = delete;
  RankOptimizer& operator=(const RankOptimizer&) = delete;
  ~RankOptimizer();

  bool sharded() const { return sharded_; }
  std::int64_t steps() const { return inner_->steps(); }
  /// Of this rank: moments, and since when each is counted.
  std::int64_t state_bytes() const;

  /// Norm of the averaged gradients; of those, own slices suffice.
  SlicedNorm gradient_norm(double max_norm);
  /// One update of all values with grad_scale times the averaged gradients; own slices suffice.
  void step(double lr, const ConstView& grad_scale = {});

  /// As in optim::Optimizer.
  void remap(const std::string& name, std::span<const std::int64_t> source);
  void convert(const std::string& name, const std::function<Tensor(const Tensor&)>& change);
  void set_parameters(std::vector<ag::Parameter*> parameters);

  /// Names of what state() gives.
  std::vector<std::string> state_names() const;
  /// Like optim::Optimizer's, whole, on rank 0; nothing on others where it is sharded. Then the
  /// tensors lie on the host.
  optim::NamedTensors state() const;
  /// The part of the state that every rank has, and that must be equal on all.
  optim::NamedTensors common_state() const;
  /// Takes a whole state on every rank. Throws like optim::Optimizer's.
  void load(const optim::NamedTensors& state);

 private:
  struct Slice;
  void bind_slices();
  std::vector<ag::Parameter*> slice_parameters();
  Slice& find(const std::string& name);
  optim::NamedTensors whole_state(const Slice& slice, const optim::NamedTensors& own) const;
  Tensor whole_births(const Slice& slice, const Tensor& own) const;
  void change_whole(const std::string& name, const std::function<void(optim::Optimizer&)>& change);

  optim::OptimConfig config_;
  dist::Communicator& comm_;
  bool sharded_;
  std::vector<ag::Parameter*> parameters_;
  std::vector<std::unique_ptr<Slice>> slices_;  // empty unless sharded
  std::unique_ptr<optim::Optimizer> inner_;
};

}  // namespace hew::train
