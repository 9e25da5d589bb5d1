#include "tests/support/compare.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/error.h"
#include "tests/support/device.h"

namespace hew::test {
namespace {

// By way of Wide, to which T converts.
template <class T, class Wide = T>
std::vector<double> widen_as(const Tensor& t) {
  const std::vector<T> values = t.to_vector<T>();
  std::vector<double> out(values.size());
  std::ranges::transform(values, out.begin(),
                         [](T x) { return static_cast<double>(static_cast<Wide>(x)); });
  return out;
}

std::vector<double> widen(const Tensor& t) {
  switch (t.dtype()) {
    case DType::kFloat64:
      return t.to_vector<double>();
    case DType::kFloat32:
      return widen_as<float>(t);
    case DType::kBFloat16:
      return widen_as<BFloat16, float>(t);
    case DType::kInt64:
      return widen_as<std::int64_t>(t);
    default:
      return widen_as<std::int32_t>(t);
  }
}

}  // namespace

double epsilon(DType dtype) {
  switch (dtype) {
    case DType::kFloat64:
      return 0x1p-52;
    case DType::kFloat32:
      return 0x1p-23;
    default:
      return 0x1p-7;  // bfloat16
  }
}

double unit_roundoff(DType dtype) {
  return epsilon(dtype) / 2;
}

double largest(const Tensor& x) {
  double most = 0;
  for (const double value : widen(x)) most = std::max(most, std::abs(value));
  return most;
}

Comparison compare(const Tensor& a, const Tensor& b, double relative, double absolute) {
  if (a.shape() != b.shape()) {
    return {false, fmt::format("shapes {} and {}", to_string(a.shape()), to_string(b.shape()))};
  }
  const std::vector<double> va = widen(a);
  const std::vector<double> vb = widen(b);
  std::size_t bad = 0;
  std::size_t worst = 0;
  double worst_excess = -1;
  for (std::size_t i = 0; i < va.size(); ++i) {
    const double error = std::abs(va[i] - vb[i]);
    const double allowed = absolute + relative * std::abs(vb[i]);
    // False for a NaN, and for an infinity, of which any share would be allowed.
    if (std::isfinite(error) && error <= allowed)
      continue;
    const double excess = std::isfinite(error) ? error - allowed : INFINITY;
    if (excess > worst_excess) {
      worst_excess = excess;
      worst = i;
    }
    ++bad;
  }
  if (bad == 0)
    return {true, {}};
  return {false, fmt::format("{} of {} elements differ; worst at {}: {:.9g} against {:.9g}", bad,
                             va.size(), worst, va[worst], vb[worst])};
}

bool same_bytes(const Tensor& a, const Tensor& b) {
  if (a.shape() != b.shape() || a.dtype() != b.dtype())
    return false;
  const Tensor left = on_cpu(a);
  const Tensor right = on_cpu(b);
  return std::memcmp(left.view().data, right.view().data, static_cast<std::size_t>(a.nbytes())) ==
         0;
}

}  // namespace hew::test
