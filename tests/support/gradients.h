#pragma once

#include <functional>
#include <vector>

#include "autograd/gradcheck.h"
#include "autograd/variable.h"

namespace hew::test {

using Function = std::function<ag::Variable(const std::vector<ag::Variable>&)>;

/// ag::gradcheck, with small sizes (sizes.h) on about 4 elements of each input.
ag::GradcheckResult gradcheck(const Function& f, const std::vector<Tensor>& inputs);

/// f's output and its gradient with respect to every input, for a fixed random output gradient.
std::vector<Tensor> value_and_gradients(const Function& f, const std::vector<Tensor>& inputs);

/// True if value_and_gradients gives the same bytes with 1, 2 and 3 threads.
bool independent_of_threads(const Function& f, const std::vector<Tensor>& inputs);

}  // namespace hew::test
