#include <algorithm>

#include "core/error.h"
#include "io/bsr_file.h"

namespace hew {
namespace {

// What an error of a matrix starts with.
struct Place {
  const std::string& file;
  const std::string& matrix;

  template <class... Args>
  void require(bool condition, fmt::format_string<Args...> format, Args&&... args) const {
    if (condition)
      return;
    throw DataError(fmt::format("{}: matrix '{}': {}", file, matrix,
                                fmt::format(format, std::forward<Args>(args)...)));
  }
};

std::int64_t blocks(std::int64_t size, std::int64_t block) {
  return size / block + (size % block != 0 ? 1 : 0);
}

std::int64_t at(const std::vector<std::int32_t>& values, std::int64_t i) {
  return values[static_cast<std::size_t>(i)];
}

void check_sizes(const BsrRecord& record, const Place& place) {
  place.require(record.rows > 0 && record.cols > 0 && record.block > 0,
                "{} rows, {} columns and block {} are not all positive", record.rows, record.cols,
                record.block);
  const std::int64_t rows = blocks(record.rows, record.block);
  place.require(std::ssize(record.crow_indices) - 1 == rows,
                "crow_indices has {} entries, expected {}", record.crow_indices.size(), rows + 1);
  const Shape wanted{std::ssize(record.col_indices), record.block, record.block};
  place.require(record.values.defined() && record.values.shape() == wanted,
                "values has shape {}, expected {}", to_string(record.values.shape()),
                to_string(wanted));
  place.require(is_floating(record.values.dtype()), "values is {}, expected a floating type",
                name_of(record.values.dtype()));
}

void check_rows(const BsrRecord& record, const Place& place) {
  const auto& crow = record.crow_indices;
  place.require(crow[0] == 0, "crow_indices[0] is {}, expected 0", crow[0]);
  for (std::int64_t r = 1; r < std::ssize(crow); ++r) {
    place.require(at(crow, r) >= at(crow, r - 1), "crow_indices[{}] is {}, below the {} before it",
                  r, at(crow, r), at(crow, r - 1));
  }
  place.require(crow.back() == std::ssize(record.col_indices),
                "crow_indices[{}] is {}, expected the number of blocks, {}", crow.size() - 1,
                crow.back(), record.col_indices.size());
}

void check_columns(const BsrRecord& record, const Place& place) {
  const std::int64_t columns = blocks(record.cols, record.block);
  for (std::int64_t r = 0; r + 1 < std::ssize(record.crow_indices); ++r) {
    std::int64_t previous = -1;
    for (std::int64_t p = at(record.crow_indices, r); p < at(record.crow_indices, r + 1); ++p) {
      const std::int64_t column = at(record.col_indices, p);
      place.require(column >= 0 && column < columns, "col_indices[{}] is {}, outside of 0 to {}", p,
                    column, columns - 1);
      place.require(column > previous,
                    "col_indices[{}] is {}, not above the {} before it in block row {}", p, column,
                    previous, r);
      previous = column;
    }
  }
}

double widen(double value) {
  return value;
}
double widen(BFloat16 value) {
  return static_cast<float>(value);
}

template <class T>
void check_block_padding(const BsrRecord& record, const T* values, std::int64_t r, std::int64_t p,
                         const Place& place) {
  const std::int64_t b = record.block;
  const std::int64_t real_rows = std::min(b, record.rows - r * b);
  const std::int64_t real_cols = std::min(b, record.cols - at(record.col_indices, p) * b);
  if (real_rows == b && real_cols == b)
    return;
  for (std::int64_t i = 0; i < b; ++i) {
    for (std::int64_t j = i < real_rows ? real_cols : 0; j < b; ++j) {
      const double value = widen(values[(p * b + i) * b + j]);
      const bool zero = value == 0;  // false for NaN
      place.require(zero, "values[{}, {}, {}] is {}, but lies outside of the matrix and must be 0",
                    p, i, j, value);
    }
  }
}

template <class T>
void check_padding(const BsrRecord& record, const Place& place) {
  std::vector<T> copied;
  if (!record.values.device().is_cpu())
    copied = record.values.to_vector<T>();
  const T* values = copied.empty() ? record.values.data<T>() : copied.data();
  for (std::int64_t r = 0; r + 1 < std::ssize(record.crow_indices); ++r) {
    for (std::int64_t p = at(record.crow_indices, r); p < at(record.crow_indices, r + 1); ++p) {
      check_block_padding(record, values, r, p, place);
    }
  }
}

}  // namespace

void check_bsr(const BsrRecord& record, const std::string& file) {
  const Place place{file, record.name};
  check_sizes(record, place);
  check_rows(record, place);
  check_columns(record, place);
  if (record.rows % record.block == 0 && record.cols % record.block == 0)
    return;
  switch (record.values.dtype()) {
    case DType::kFloat64:
      return check_padding<double>(record, place);
    case DType::kBFloat16:
      return check_padding<BFloat16>(record, place);
    default:
      return check_padding<float>(record, place);
  }
}

}  // namespace hew
