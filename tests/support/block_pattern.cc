#include "tests/support/block_pattern.h"

#include "core/rng.h"

namespace hew::test {
namespace {

// body(values offset, row, col) for every element of every live block, padding included.
template <class Body>
void for_each_element(const BlockPattern& p, const Body& body) {
  for (std::size_t r = 0; r + 1 < p.crow.size(); ++r) {
    for (auto at = p.crow[r]; at < p.crow[r + 1]; ++at) {
      for (std::int64_t i = 0; i < p.block * p.block; ++i) {
        body(at * p.block * p.block + i, static_cast<std::int64_t>(r) * p.block + i / p.block,
             p.col[static_cast<std::size_t>(at)] * p.block + i % p.block);
      }
    }
  }
}

template <class T>
Tensor fold_as(const Tensor& values, const BlockPattern& p) {
  const std::vector<T> from = values.to_vector<T>();
  std::vector<T> dense(static_cast<std::size_t>(p.rows * p.cols));
  for_each_element(p, [&](std::int64_t at, std::int64_t n, std::int64_t k) {
    if (n < p.rows && k < p.cols)
      dense[static_cast<std::size_t>(n * p.cols + k)] = from[static_cast<std::size_t>(at)];
  });
  return Tensor::from(dense, {p.rows, p.cols}, values.stream());
}

template <class T>
Tensor with_zero_padding_as(const Tensor& values, const BlockPattern& p) {
  std::vector<T> out = values.to_vector<T>();
  for_each_element(p, [&](std::int64_t at, std::int64_t n, std::int64_t k) {
    if (n >= p.rows || k >= p.cols)
      out[static_cast<std::size_t>(at)] = T{0};
  });
  return Tensor::from(out, values.shape(), values.stream());
}

Tensor uploaded(const std::vector<std::int32_t>& array, const Stream& stream) {
  return Tensor::from(array, {static_cast<std::int64_t>(array.size())}, stream);
}

}  // namespace

UploadedPattern::UploadedPattern(const BlockPattern& pattern, const Stream& stream)
    : index_(pattern.index()),
      crow_(uploaded(pattern.crow, stream)),
      col_(uploaded(pattern.col, stream)),
      ccol_(uploaded(pattern.ccol, stream)),
      row_(uploaded(pattern.row, stream)),
      position_(uploaded(pattern.position, stream)),
      schedule_(kernels::schedule_for(pattern.index(), stream)) {}

BlockPattern one_block(std::int64_t rows, std::int64_t cols, std::int64_t block, std::int64_t r,
                       std::int64_t c) {
  return make_pattern(rows, cols, block,
                      [=](std::int64_t row, std::int64_t col) { return row == r && col == c; });
}

kernels::BsrIndex UploadedPattern::index() const {
  kernels::BsrIndex index = index_;
  index.crow = crow_.data<std::int32_t>();
  index.col = col_.data<std::int32_t>();
  index.ccol = ccol_.data<std::int32_t>();
  index.row = row_.data<std::int32_t>();
  index.position = position_.data<std::int32_t>();
  index.schedule = schedule_.get();
  return index;
}

kernels::BsrIndex BlockPattern::index() const {
  return {.rows = rows,
          .cols = cols,
          .block = block,
          .nnzb = nnzb(),
          .crow = crow.data(),
          .col = col.data(),
          .ccol = ccol.data(),
          .row = row.data(),
          .position = position.data()};
}

BlockPattern random_pattern(std::int64_t rows, std::int64_t cols, std::int64_t block,
                            double density, std::uint64_t seed) {
  return make_pattern(rows, cols, block, [&](std::int64_t r, std::int64_t c) {
    const double draw = static_cast<double>(
        uniform(seed, static_cast<std::uint64_t>(r), static_cast<std::uint64_t>(c)));
    return draw < density && (density == 1 || (r != 1 && c != 1));
  });
}

Tensor fold(const Tensor& values, const BlockPattern& pattern) {
  return values.dtype() == DType::kFloat64 ? fold_as<double>(values, pattern)
                                           : fold_as<float>(values, pattern);
}

Tensor with_zero_padding(const Tensor& values, const BlockPattern& pattern) {
  return values.dtype() == DType::kFloat64 ? with_zero_padding_as<double>(values, pattern)
                                           : with_zero_padding_as<float>(values, pattern);
}

}  // namespace hew::test
