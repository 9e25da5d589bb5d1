#include "kernels/embedding.h"

#include <doctest/doctest.h>

#include <array>
#include <cmath>

#include "core/rng.h"
#include "tests/support/compare.h"
#include "tests/support/device.h"
#include "tests/support/random.h"
#include "tests/support/sizes.h"

namespace hew {
namespace {

constexpr std::array kTypes{DType::kFloat32, DType::kFloat64, DType::kBFloat16};

enum class Ids { kUniform, kAllEqual, kZipf };

Tensor random_ids(Ids kind, std::int64_t count, std::int64_t vocabulary) {
  std::vector<std::int32_t> ids;
  for (std::int64_t i = 0; i < count; ++i) {
    const auto at = static_cast<std::uint64_t>(i);
    auto id = uniform_below(9, 0, at, static_cast<std::uint64_t>(vocabulary));
    if (kind == Ids::kAllEqual) {
      id = static_cast<std::uint64_t>(vocabulary / 2);
    } else if (kind == Ids::kZipf) {  // density 1/id, by inversion
      const double u = static_cast<double>(uniform_below(9, 1, at, 1U << 20U)) / (1U << 20U);
      id = static_cast<std::uint64_t>(std::pow(static_cast<double>(vocabulary), u)) - 1;
    }
    ids.push_back(static_cast<std::int32_t>(id));
  }
  return Tensor::from(ids, {count}, make_cpu_stream());
}

// Small whole numbers: all sums are exact, in any order and any dtype of sums.
Tensor whole_numbers(const Shape& shape, std::uint64_t seed) {
  const Stream cpu = make_cpu_stream();
  std::vector<double> values =
      test::random_tensor(shape, DType::kFloat64, cpu, seed).to_vector<double>();
  for (double& value : values) value = std::round(2 * value);
  return Tensor::from(values, shape, cpu);
}

struct Size {
  std::int64_t count;
  std::int64_t vocabulary;
  std::int64_t width;
};

// With small sizes still several tiles of ids, and several levels of them in narrow tables.
Size cut(const Size& size) {
  const std::int64_t most = 60000 / size.width;
  return {test::cut(size.count, most), test::cut(size.vocabulary, most), size.width};
}

}  // namespace

TEST_CASE("embedding on a GPU gathers the CPU's rows") {
  const Stream& gpu = test::gpu_stream();
  const Stream cpu = make_cpu_stream();
  for (const DType dtype : kTypes) {
    for (const Size& whole : {Size{1, 1, 1}, Size{3, 7, 5}, Size{101, 13, 8}, Size{33, 5003, 131},
                              Size{20011, 257, 96}, Size{1009, 31, 1032}}) {
      const Size size = cut(whole);
      CAPTURE(name_of(dtype));
      CAPTURE(size.count);
      CAPTURE(size.width);
      // A row off the start, so that tables begin anywhere.
      const Tensor table = whole_numbers({size.vocabulary + 1, size.width}, 1);
      const Tensor ids = random_ids(Ids::kUniform, size.count, size.vocabulary);
      Tensor wanted = Tensor::empty({size.count, size.width}, DType::kFloat64, cpu);
      kernels::embedding_forward(ids, table.rows(1, size.vocabulary), wanted, cpu);
      Tensor y = test::poisoned({size.count, size.width}, dtype, gpu);
      const Tensor on_gpu = test::to(test::rounded(table, dtype), gpu);
      kernels::embedding_forward(test::to(ids, gpu), on_gpu.rows(1, size.vocabulary), y, gpu);
      HEW_CHECK_CLOSE(y, wanted, 0);
    }
  }
}

TEST_CASE("the gradient of a table on a GPU is the CPU's sum, and nothing else is written") {
  const Stream& gpu = test::gpu_stream();
  const Stream cpu = make_cpu_stream();
  for (const DType dtype : kTypes) {
    const DType sums = accumulator_of(dtype);
    for (const Size& whole :
         {Size{0, 3, 4}, Size{1, 1, 1}, Size{31, 7, 5}, Size{32, 2, 8}, Size{33, 7, 8},
          Size{64, 40, 3}, Size{65, 3, 4}, Size{1000, 5003, 131}, Size{1024, 17, 1028},
          Size{20011, 5003, 48}, Size{65536, 1009, 12}}) {
      const Size size = cut(whole);
      for (const Ids kind : {Ids::kUniform, Ids::kAllEqual, Ids::kZipf}) {
        CAPTURE(name_of(dtype));
        CAPTURE(size.count);
        CAPTURE(size.vocabulary);
        CAPTURE(size.width);
        CAPTURE(static_cast<int>(kind));
        const Tensor ids = random_ids(kind, size.count, size.vocabulary);
        const Tensor dy = whole_numbers({size.count + 1, size.width}, 2);
        const Tensor before = whole_numbers({size.vocabulary, size.width}, 3);
        Tensor wanted = Tensor::empty(before.shape(), DType::kFloat64, cpu);
        Tensor added = before.clone();
        kernels::embedding_backward(ids, dy.rows(1, size.count), wanted, /*accumulate=*/false, cpu);
        kernels::embedding_backward(ids, dy.rows(1, size.count), added, /*accumulate=*/true, cpu);

        const Tensor gpu_ids = test::to(ids, gpu);
        const Tensor gpu_dy = test::to(test::rounded(dy, dtype), gpu).rows(1, size.count);
        Tensor surrounded = test::poisoned({size.vocabulary + 2, size.width}, sums, gpu);
        Tensor dtable = surrounded.rows(1, size.vocabulary);
        kernels::embedding_backward(gpu_ids, gpu_dy, dtable, /*accumulate=*/false, gpu);
        HEW_CHECK_CLOSE(dtable, wanted, 0);
        for (const std::int64_t row : {std::int64_t{0}, size.vocabulary + 1}) {
          const Tensor outside = test::on_cpu(surrounded).rows(row, 1);
          for (const double value : test::rounded(outside, DType::kFloat64).to_vector<double>()) {
            REQUIRE(std::isnan(value));
          }
        }
        dtable.copy_from(test::to(test::rounded(before, sums), gpu));
        kernels::embedding_backward(gpu_ids, gpu_dy, dtable, /*accumulate=*/true, gpu);
        HEW_CHECK_CLOSE(dtable, added, 0);
      }
    }
  }
}

TEST_CASE("the gradient of a table on a GPU is the same bits again") {
  const Stream& gpu = test::gpu_stream();
  const Stream cpu = make_cpu_stream();
  const std::int64_t count = test::cut(30011, 1511);
  const Tensor ids = test::to(random_ids(Ids::kZipf, count, 503), gpu);
  const Tensor dy = test::to(test::random_tensor({count, 60}, DType::kFloat32, cpu, 1), gpu);
  std::vector<Tensor> tables;
  for (int i = 0; i < 2; ++i) {
    Tensor dtable = test::poisoned({503, 60}, DType::kFloat32, gpu);
    kernels::embedding_backward(ids, dy, dtable, /*accumulate=*/false, gpu);
    tables.push_back(test::on_cpu(dtable));
  }
  CHECK(test::same_bytes(tables[0], tables[1]));
}

TEST_CASE("on a GPU an id that does not exist is a row of NaN, and left out of the gradient") {
  const Stream& gpu = test::gpu_stream();
  const Stream cpu = make_cpu_stream();
  const std::vector<std::int32_t> bad{2, 7, -1, 0, 2};
  const Tensor ids = test::to(Tensor::from(bad, {5}, cpu), gpu);
  const Tensor table = test::to(whole_numbers({7, 4}, 1), gpu);
  Tensor y = Tensor::zeros({5, 4}, DType::kFloat64, gpu);
  kernels::embedding_forward(ids, table, y, gpu);
  const std::vector<double> rows = y.to_vector<double>();
  for (std::size_t i = 0; i < rows.size(); ++i) {
    CHECK(std::isnan(rows[i]) == (bad[i / 4] < 0 || bad[i / 4] >= 7));
  }
  const Tensor dy = test::to(Tensor::from(std::vector<double>{1, 2, 4, 8, 16}, {5, 1}, cpu), gpu);
  Tensor dtable = test::poisoned({7, 1}, DType::kFloat64, gpu);
  kernels::embedding_backward(ids, dy, dtable, /*accumulate=*/false, gpu);
  CHECK(dtable.to_vector<double>() == std::vector<double>{8, 0, 17, 0, 0, 0, 0});
}

}  // namespace hew
