#include "train/rank_optimizer.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "core/error.h"
#include "dist/slices.h"
#include "kernels/elementwise.h"
#include "kernels/global_norm.h"

namespace hew::train {
namespace {

using optim::NamedTensors;

// The rank's part of a whole tensor, sharing its memory: of block-sparse values [nnzb, b, b] whole
// blocks [k, b, b], else elements [count].
Tensor own_part(const Tensor& whole, const dist::Communicator& comm) {
  const dist::Slice slice = dist::slice_of(whole.shape(), comm.rank(), comm.size());
  if (!dist::sliced_by_rows(whole.shape()))
    return whole.reshape({whole.numel()}).rows(slice.begin, slice.count);
  const std::int64_t row = dist::slice_unit(whole.shape());
  return row == 0 ? whole : whole.rows(slice.begin / row, slice.count / row);
}

// Births [1] of all blocks, or this rank's part of those of each [nnzb].
Tensor own_births(const Tensor& whole, const dist::Communicator& comm) {
  if (whole.numel() == 1)
    return whole;
  const Tensor part = own_part(whole.reshape({whole.numel(), 1, 1}), comm);
  return part.reshape({part.numel()});
}

bool names(const std::string& key, const std::string& parameter) {
  const std::size_t slash = key.find('/');
  return slash != std::string::npos && key.compare(slash + 1, std::string::npos, parameter) == 0;
}

bool is_birth(const std::string& key) {
  return key.starts_with("birth/");
}

}  // namespace

SlicedNorm::SlicedNorm(Tensor result, Tensor bad, std::vector<const ag::Parameter*> parameters)
    : result_(std::move(result)), bad_(std::move(bad)), parameters_(std::move(parameters)) {}

SlicedNorm::SlicedNorm(optim::GradientNorm whole)
    : whole_(std::make_unique<optim::GradientNorm>(std::move(whole))) {}

double SlicedNorm::norm() const {
  return whole_ != nullptr ? whole_->norm() : result_.rows(0, 1).to_vector<double>().front();
}

const ag::Parameter* SlicedNorm::bad() const {
  if (whole_ != nullptr)
    return whole_->bad();
  const ag::Parameter* first = nullptr;
  auto best = static_cast<double>(parameters_.size());
  for (const double index : bad_.to_vector<double>()) {
    if (index < 0 || index >= best)
      continue;
    best = index;
    first = parameters_[static_cast<std::size_t>(index)];
  }
  return first;
}

ConstView SlicedNorm::scale() const {
  return whole_ != nullptr ? whole_->scale() : std::as_const(result_).rows(1, 1).reshape({});
}

// The rank's slice of a parameter, itself a parameter of the inner optimizer.
struct RankOptimizer::Slice {
  ag::Parameter* whole = nullptr;
  Shape shape;  // of the whole value that the moments belong to
  ag::Parameter part;
};

RankOptimizer::RankOptimizer(const optim::OptimConfig& config,
                             std::vector<ag::Parameter*> parameters, dist::Communicator& comm)
    : config_(config), comm_(comm), sharded_(config.shard && comm.size() > 1) {
  if (!sharded_) {
    parameters_ = parameters;
    inner_ = optim::make_optimizer(config_, std::move(parameters));
    return;
  }
  inner_ = optim::make_optimizer(config_, {});
  set_parameters(std::move(parameters));
}

RankOptimizer::~RankOptimizer() = default;

void RankOptimizer::set_parameters(std::vector<ag::Parameter*> parameters) {
  parameters_ = parameters;
  if (!sharded_)
    return inner_->set_parameters(std::move(parameters));
  std::vector<std::unique_ptr<Slice>> slices;
  for (ag::Parameter* p : parameters) {
    auto slice = std::make_unique<Slice>();
    slice->whole = p;
    slice->shape = p->value().shape();
    slice->part = {.name = p->name,
                   .var = ag::Variable(own_part(p->value(), comm_), p->var.requires_grad()),
                   .weight_decay = p->weight_decay};
    slices.push_back(std::move(slice));
  }
  // The inner optimizer looks at the new ones before the old ones go.
  slices_.swap(slices);
  inner_->set_parameters(slice_parameters());
}

std::vector<ag::Parameter*> RankOptimizer::slice_parameters() {
  std::vector<ag::Parameter*> parts;
  for (const auto& slice : slices_) parts.push_back(&slice->part);
  return parts;
}

// Values and gradients may have moved since the last update.
void RankOptimizer::bind_slices() {
  for (const auto& slice : slices_) {
    const Tensor& grad = slice->whole->var.grad();
    require<ShapeError>(slice->whole->value().shape() == slice->shape,
                        "[optimizer] {} has shape {}, but its moments have {}", slice->part.name,
                        to_string(slice->whole->value().shape()), to_string(slice->shape));
    slice->part.lr_factor = slice->whole->lr_factor;
    slice->part.var.mutable_value() = own_part(slice->whole->value(), comm_);
    slice->part.var.grad() = grad.defined() ? own_part(grad, comm_) : Tensor();
  }
}

SlicedNorm RankOptimizer::gradient_norm(double max_norm) {
  std::vector<const ag::Parameter*> owners;
  std::vector<ConstView> gradients;
  Stream stream;
  if (sharded_)
    bind_slices();
  for (const auto& slice : slices_) {
    const Tensor& grad = std::as_const(slice->part.var).grad();
    if (!grad.defined())
      continue;
    owners.push_back(slice->whole);
    gradients.emplace_back(grad.view());
    stream = grad.stream();
  }
  if (owners.empty())
    return SlicedNorm(optim::gradient_norm(parameters_, max_norm));
  Tensor own =
      Tensor::empty({kernels::kNormFields + std::ssize(gradients)}, DType::kFloat64, stream);
  kernels::global_norm(gradients, /*max_norm=*/0, own, stream);
  Tensor norms = Tensor::empty({comm_.size()}, DType::kFloat64, stream);
  Tensor bad = Tensor::empty({comm_.size()}, DType::kFloat64, stream);
  dist::Group group(comm_);
  comm_.all_gather(own.rows(0, 1), norms, stream);
  comm_.all_gather(own.rows(2, 1), bad, stream);
  group.end();
  // √Σ norm² once more: the norm of the ranks' norms.
  Tensor result = Tensor::empty({kernels::kNormFields + 1}, DType::kFloat64, stream);
  const ConstView all = std::as_const(norms);
  kernels::global_norm({&all, 1}, max_norm, result, stream);
  return {std::move(result), std::move(bad), std::move(owners)};
}

void RankOptimizer::step(double lr, const ConstView& grad_scale) {
  if (!sharded_)
    return inner_->step(lr, grad_scale);
  bind_slices();
  inner_->step(lr, grad_scale);
  dist::Group group(comm_);
  for (const auto& slice : slices_) {
    if (slice->part.var.grad().defined() && slice->part.var.requires_grad()) {
      ag::Variable::Update target = slice->whole->var.update();
      dist::gather_slices(comm_, target.value, target.value.stream());
    }
  }
  group.end();
  for (const auto& slice : slices_) {
    if (slice->part.var.grad().defined() && slice->part.var.requires_grad()) {
      ag::Variable::Update target = slice->whole->var.update();
      if (target.working.defined())
        kernels::cast(target.value, target.working, target.value.stream());
    }
    slice->part.var.zero_grad();
  }
}

RankOptimizer::Slice& RankOptimizer::find(const std::string& name) {
  const auto found = std::find_if(slices_.begin(), slices_.end(),
                                  [&name](const auto& s) { return s->part.name == name; });
  require<ConfigError>(found != slices_.end(), "[optimizer] has no parameter called {}", name);
  return **found;
}

// Of block-sparse values each rank knows its own blocks' births; [1] where all have one age.
Tensor RankOptimizer::whole_births(const Slice& slice, const Tensor& own) const {
  const Stream cpu = make_cpu_stream();
  if (!dist::sliced_by_rows(slice.shape))
    return own;
  const std::int64_t blocks = slice.shape[0];
  Tensor whole = Tensor::zeros({blocks, 1, 1}, DType::kInt64, cpu);
  Tensor part = own_part(whole, comm_);
  std::vector<std::int64_t> births = own.to_vector<std::int64_t>();
  if (births.size() == 1)
    births.assign(static_cast<std::size_t>(part.size(0)), births.front());
  part.copy_from(Tensor::from(births, part.shape(), cpu));
  dist::gather_slices(comm_, whole, cpu);
  births = whole.to_vector<std::int64_t>();
  if (blocks > 0 && std::count(births.begin(), births.end(), births.front()) == blocks)
    births.resize(1);
  if (births.empty())
    births = {0};
  return Tensor::from(births, {std::ssize(births)}, cpu);
}

// What `own`, the inner optimizer's state, has of one parameter.
NamedTensors RankOptimizer::whole_state(const Slice& slice, const NamedTensors& own) const {
  NamedTensors out;
  for (const auto& [key, tensor] : own) {
    if (!names(key, slice.part.name))
      continue;
    if (is_birth(key)) {
      out.emplace_back(key, whole_births(slice, tensor));
      continue;
    }
    const Stream& stream = slice.whole->value().stream();
    Tensor whole = Tensor::empty(slice.shape, tensor.dtype(), stream);
    own_part(whole, comm_).copy_from(tensor);
    dist::gather_slices(comm_, whole, stream);
    out.emplace_back(key, whole);
  }
  return out;
}

// Lets an optimizer of the whole parameter make the change, and keeps this rank's part of it.
void RankOptimizer::change_whole(const std::string& name,
                                 const std::function<void(optim::Optimizer&)>& change) {
  Slice& slice = find(name);
  const Tensor& value = slice.whole->value();
  NamedTensors own = inner_->state();
  NamedTensors state = whole_state(slice, own);
  state.push_back(own.front());  // "steps"
  ag::Parameter stand_in{
      .name = name,
      .var = ag::Variable(Tensor::meta(slice.shape, value.dtype(), value.stream()),
                          slice.part.var.requires_grad()),
      .weight_decay = slice.part.weight_decay};
  const auto whole = optim::make_optimizer(config_, {&stand_in});
  whole->load(state);
  stand_in.var.mutable_value() = Tensor::meta(value.shape(), value.dtype(), value.stream());
  change(*whole);
  slice.shape = value.shape();
  slice.part.var.mutable_value() = own_part(value, comm_);
  NamedTensors part;
  for (const auto& [key, tensor] : whole->state()) {
    if (names(key, name))
      part.emplace_back(key, is_birth(key) ? own_births(tensor, comm_) : own_part(tensor, comm_));
  }
  inner_->replace(name, part);
}

void RankOptimizer::remap(const std::string& name, std::span<const std::int64_t> source) {
  if (!sharded_)
    return inner_->remap(name, source);
  change_whole(name, [&](optim::Optimizer& whole) { whole.remap(name, source); });
}

void RankOptimizer::convert(const std::string& name,
                            const std::function<Tensor(const Tensor&)>& change) {
  if (!sharded_)
    return inner_->convert(name, change);
  change_whole(name, [&](optim::Optimizer& whole) { whole.convert(name, change); });
}

std::int64_t RankOptimizer::state_bytes() const {
  std::int64_t bytes = 0;
  for (const auto& [key, tensor] : inner_->state()) bytes += tensor.nbytes();
  return bytes;
}

std::vector<std::string> RankOptimizer::state_names() const {
  std::vector<std::string> out;
  for (const auto& [key, tensor] : inner_->state()) out.push_back(key);
  return out;
}

NamedTensors RankOptimizer::state() const {
  NamedTensors own = inner_->state();
  if (!sharded_)
    return own;
  NamedTensors out{own.front()};
  std::map<std::string, const Slice*> by_name;
  for (const auto& slice : slices_) by_name[slice->part.name] = slice.get();
  for (const auto& [name, slice] : by_name) {  // the order of an optimizer's own state
    for (auto& [key, tensor] : whole_state(*slice, own)) {
      if (comm_.rank() != 0)
        continue;
      Tensor host = Tensor::empty(tensor.shape(), tensor.dtype(), make_cpu_stream());
      host.copy_from(tensor);
      out.emplace_back(key, host);
    }
  }
  return comm_.rank() == 0 ? out : NamedTensors();
}

NamedTensors RankOptimizer::common_state() const {
  NamedTensors own = inner_->state();
  if (sharded_)
    own.resize(1);
  return own;
}

void RankOptimizer::load(const NamedTensors& state) {
  if (!sharded_)
    return inner_->load(state);
  std::map<std::string, const Slice*> by_name;
  for (const auto& slice : slices_) by_name[slice->part.name] = slice.get();
  NamedTensors own;
  for (const auto& [key, tensor] : state) {
    const std::size_t slash = key.find('/');
    const auto found =
        slash == std::string::npos ? by_name.end() : by_name.find(key.substr(slash + 1));
    if (found == by_name.end()) {
      own.emplace_back(key, tensor);
    } else if (!is_birth(key)) {
      const Shape& shape = found->second->whole->value().shape();
      require<DataError>(tensor.shape() == shape, "[optimizer] saved {} is {} {}, expected {}", key,
                         name_of(tensor.dtype()), to_string(tensor.shape()), to_string(shape));
      own.emplace_back(key, own_part(tensor, comm_));
    } else {
      own.emplace_back(key, own_births(tensor, comm_));
    }
  }
  inner_->load(own);
}

}  // namespace hew::train
