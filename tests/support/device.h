#pragma once

#include "core/tensor.h"

namespace hew::test {

/// The stream a test body runs on: the CPU, or with HEW_TEST_DEVICE=cuda the first GPU. tests with
/// the label cuda are skipped before they come here where there is none.
const Stream& test_stream();
/// Whether that is a GPU, for what holds on one kind of device only.
bool on_gpu();
/// The first GPU.
const Stream& gpu_stream();

/// A copy on another stream, on the host, and in another floating dtype (rounded to nearest).
Tensor to(const Tensor& tensor, const Stream& stream);
Tensor on_cpu(const Tensor& tensor);
Tensor rounded(const Tensor& tensor, DType dtype);

/// A copy of a floating tensor in which the element `at`, in row-major order, is `value`.
Tensor with_element(const Tensor& tensor, std::int64_t at, double value);

/// A tensor filled with NaN (floating) or -1 (int32, int64), so that what is not written shows.
Tensor poisoned(const Shape& shape, DType dtype, const Stream& stream);

}  // namespace hew::test
