#include "tests/support/gradients.h"

#include <omp.h>

#include <limits>

#include "tests/support/compare.h"
#include "tests/support/random.h"
#include "tests/support/sizes.h"

namespace hew::test {

ag::GradcheckResult gradcheck(const Function& f, const std::vector<Tensor>& inputs) {
  return ag::gradcheck(f, inputs, cut(std::numeric_limits<std::int64_t>::max(), 4));
}

std::vector<Tensor> value_and_gradients(const Function& f, const std::vector<Tensor>& inputs) {
  constexpr std::uint64_t kGradientSeed = 77;
  std::vector<ag::Variable> leaves;
  leaves.reserve(inputs.size());
  for (const Tensor& t : inputs) leaves.emplace_back(t, /*requires_grad=*/true);
  const ag::Variable y = f(leaves);
  ag::backward(y, random_tensor(y.shape(), y.dtype(), y.stream(), kGradientSeed));
  std::vector<Tensor> out{y.value()};
  for (const ag::Variable& leaf : leaves) out.push_back(leaf.grad());
  return out;
}

bool independent_of_threads(const Function& f, const std::vector<Tensor>& inputs) {
  const int threads_before = omp_get_max_threads();
  omp_set_num_threads(1);
  const std::vector<Tensor> expected = value_and_gradients(f, inputs);
  bool same = true;
  for (const int threads : {2, 3}) {
    omp_set_num_threads(threads);
    const std::vector<Tensor> got = value_and_gradients(f, inputs);
    for (std::size_t i = 0; i < got.size(); ++i) same = same && same_bytes(got[i], expected[i]);
  }
  omp_set_num_threads(threads_before);
  return same;
}

}  // namespace hew::test
