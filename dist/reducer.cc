#include "dist/reducer.h"

#include "core/error.h"
#include "kernels/elementwise.h"

namespace hew::dist {

GradientReducer::GradientReducer(Communicator& comm, std::int64_t bucket_bytes)
    : comm_(comm), bucket_bytes_(bucket_bytes) {
  require<ConfigError>(bucket_bytes > 0, "[reducer] a bucket has {} bytes", bucket_bytes);
}

void GradientReducer::average(std::span<ag::Parameter* const> parameters) {
  std::vector<Tensor> bucket;
  std::int64_t bytes = 0;
  auto flush = [&] {
    average_bucket(bucket);
    bucket.clear();
    bytes = 0;
  };
  for (ag::Parameter* p : parameters) {
    if (!p->var.requires_grad())
      continue;
    Tensor& grad = p->var.grad();
    require<Error>(grad.defined(), "[reducer] {} has no gradient: the loss does not depend on it",
                   p->name);
    const bool fits = bytes + grad.nbytes() <= bucket_bytes_;
    if (!bucket.empty() && (!fits || bucket.front().dtype() != grad.dtype()))
      flush();
    bucket.push_back(grad);
    bytes += grad.nbytes();
  }
  flush();
}

void GradientReducer::average(Tensor& tensor) {
  if (comm_.size() == 1)
    return;
  comm_.all_reduce_sum(tensor);
  kernels::scale(1.0 / comm_.size(), tensor, tensor.stream());
  bytes_reduced_ += tensor.nbytes();
}

void GradientReducer::average_bucket(std::span<Tensor> tensors) {
  if (comm_.size() == 1 || tensors.empty())
    return;
  if (tensors.size() == 1)
    return average(tensors.front());
  std::int64_t n = 0;
  for (const Tensor& t : tensors) n += t.numel();
  Tensor bucket = Tensor::empty({n}, tensors.front().dtype(), tensors.front().stream());
  std::int64_t begin = 0;
  for (const Tensor& t : tensors) {
    bucket.rows(begin, t.numel()).reshape(t.shape()).copy_from(t);
    begin += t.numel();
  }
  average(bucket);
  begin = 0;
  for (Tensor& t : tensors) {
    t.copy_from(bucket.rows(begin, t.numel()).reshape(t.shape()));
    begin += t.numel();
  }
}

}  // namespace hew::dist
