#include "dist/reducer.h"

#include <algorithm>
#include <iterator>

#include "core/cuda_device.h"
#include "core/error.h"
#include "dist/slices.h"

namespace hew::dist {

GradientReducer::GradientReducer(Communicator& comm, const ReducerOptions& options)
    : comm_(comm), options_(options) {
  require<ConfigError>(options.bucket_bytes > 0, "[reducer] a bucket has {} bytes",
                       options.bucket_bytes);
}

GradientReducer::~GradientReducer() {
  if (!in_flight_.empty())
    comm_.give_up();  // the side stream must come to rest
}

void GradientReducer::begin(std::span<ag::Parameter* const> parameters, Share share) {
  share_ = share;
  beside_ = true;
  buckets_.clear();
  bucket_of_.clear();
  next_ = 0;
  std::vector<ag::Parameter*> small;
  std::int64_t bytes = 0;
  for (auto it = parameters.rbegin(); it != parameters.rend(); ++it) {
    ag::Parameter* parameter = *it;
    if (!parameter->var.requires_grad())
      continue;
    const Tensor& value = parameter->value();
    const std::int64_t size = value.numel() * size_of(accumulator_of(value.dtype()));
    if (size < options_.small_bytes) {
      small.push_back(parameter);
      continue;
    }
    if (buckets_.empty() || bytes + size > options_.bucket_bytes) {
      buckets_.emplace_back();
      bytes = 0;
    }
    bytes += size;
    buckets_.back().parameters.push_back(parameter);
  }
  if (buckets_.empty() && !small.empty())
    buckets_.emplace_back();
  for (ag::Parameter* parameter : small) buckets_.back().parameters.push_back(parameter);
  for (std::size_t i = 0; i < buckets_.size(); ++i) {
    buckets_[i].missing = buckets_[i].parameters.size();
    for (const ag::Parameter* p : buckets_[i].parameters) bucket_of_.emplace(p->var.key(), i);
  }
}

void GradientReducer::ready(const void* leaf) {
  const auto found = bucket_of_.find(leaf);
  if (found == bucket_of_.end())
    return;
  --buckets_[found->second].missing;
  bucket_of_.erase(found);
  start_complete_buckets();
}

void GradientReducer::start_complete_buckets() {
  while (next_ < buckets_.size() && buckets_[next_].missing == 0) start_next();
}

void GradientReducer::finish() {
  for (const Bucket& bucket : buckets_) {
    for (const ag::Parameter* p : bucket.parameters) {
      require<Error>(p->var.grad().defined(),
                     "[reducer] {} has no gradient: the loss does not depend on it", p->name);
    }
  }
  bucket_of_.clear();
  while (next_ < buckets_.size()) start_next();
  if (!in_flight_.empty()) {
    mark_->record(side_);
    mark_->hold(in_flight_.front().stream());
    in_flight_.clear();
  }
  buckets_.clear();
  next_ = 0;
}

void GradientReducer::average(std::span<ag::Parameter* const> parameters, Share share) {
  begin(parameters, share);
  beside_ = false;
  finish();
}

void GradientReducer::average(Tensor& tensor) {
  if (comm_.size() == 1)
    return;
  comm_.all_reduce(tensor, Reduction::kMean, tensor.stream());
  bytes_reduced_ += tensor.nbytes();
}

void GradientReducer::start_next() {
  const Bucket& bucket = buckets_[next_++];
  if (comm_.size() == 1)
    return;
  std::vector<Tensor> gradients;
  for (ag::Parameter* parameter : bucket.parameters) {
    gradients.push_back(parameter->var.grad());
    bytes_reduced_ += gradients.back().nbytes();
  }
  if (gradients.front().device().is_cuda())
    return start_beside(gradients);
  if (share_ == Share::kSlices) {
    for (Tensor& grad : gradients) reduce(grad, grad.stream());
    return;
  }
  auto first = gradients.begin();
  while (first != gradients.end()) {
    const auto last = std::find_if(std::next(first), gradients.end(), [&](const Tensor& grad) {
      return grad.dtype() != first->dtype() ||
             std::max(first->nbytes(), grad.nbytes()) > options_.bucket_bytes;
    });
    average_packed({first, last});
    first = last;
  }
}

void GradientReducer::start_beside(std::span<Tensor> gradients) {
  const Stream& stream = gradients.front().stream();
  if (mark_ == nullptr) {
    side_ = side_stream(stream);
    mark_ = std::make_unique<cuda::Mark>();
  }
  mark_->record(stream);
  mark_->hold(side_);
  in_flight_.insert(in_flight_.end(), gradients.begin(), gradients.end());
  Group group(comm_);
  for (Tensor& grad : gradients) reduce(grad, side_);
  group.end();
}

void GradientReducer::reduce(const View& view, const Stream& stream) {
  // By the number of the bucket alone, so that all ranks choose alike.
  const bool beside = beside_ && next_ < buckets_.size();
  if (share_ == Share::kSlices) {
    reduce_slices(comm_, view, Reduction::kMean, stream, beside);
  } else if (beside) {
    comm_.all_reduce_beside(view, Reduction::kMean, stream);
  } else {
    comm_.all_reduce(view, Reduction::kMean, stream);
  }
}

// Gradients of one dtype on the host, as one message.
void GradientReducer::average_packed(std::span<Tensor> gradients) {
  if (gradients.size() == 1)
    return reduce(gradients.front(), gradients.front().stream());
  std::int64_t n = 0;
  for (const Tensor& grad : gradients) n += grad.numel();
  const Stream& stream = gradients.front().stream();
  Tensor packed = Tensor::empty({n}, gradients.front().dtype(), stream);
  std::int64_t begin = 0;
  for (const Tensor& grad : gradients) {
    packed.rows(begin, grad.numel()).reshape(grad.shape()).copy_from(grad);
    begin += grad.numel();
  }
  reduce(packed, stream);
  begin = 0;
  for (Tensor& grad : gradients) {
    grad.copy_from(packed.rows(begin, grad.numel()).reshape(grad.shape()));
    begin += grad.numel();
  }
}

}  // namespace hew::dist
