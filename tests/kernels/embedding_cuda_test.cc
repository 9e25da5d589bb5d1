#include "kernels/embedding.h"

#include <doctest/doctest.h>

#include <algorithm>
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

enum class Ids { kUniform, kAllEqual, kZipf, kDistinct, kOutside };
constexpr std::array kKinds{Ids::kUniform, Ids::kAllEqual, Ids::kZipf, Ids::kDistinct,
                            Ids::kOutside};

std::int64_t below(std::uint64_t stream, std::uint64_t at, std::int64_t n) {
  return static_cast<std::int64_t>(uniform_below(9, stream, at, static_cast<std::uint64_t>(n)));
}

Tensor random_ids(Ids kind, std::int64_t count, std::int64_t vocabulary) {
  std::vector<std::int32_t> ids;
  for (std::int64_t i = 0; i < count; ++i) {
    const auto at = static_cast<std::uint64_t>(i);
    std::int64_t id = below(0, at, vocabulary);
    if (kind == Ids::kAllEqual) {
      id = vocabulary / 2;
    } else if (kind == Ids::kZipf) {  // density 1/id, by inversion
      const double u = static_cast<double>(below(1, at, 1 << 20)) / (1 << 20);
      id = static_cast<std::int64_t>(std::pow(static_cast<double>(vocabulary), u)) - 1;
    } else if (kind == Ids::kDistinct) {  // as far as there are that many
      id = i * 1000003 % vocabulary;
    } else if (kind == Ids::kOutside) {  // two of three, on both sides
      id = below(2, at, 3 * vocabulary) - vocabulary;
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

// The CPU's sums, without the positions whose id does not exist, which it would refuse.
void add_known(const Tensor& ids, const Tensor& dy, Tensor& dtable, bool accumulate) {
  const Stream cpu = make_cpu_stream();
  std::vector<std::int32_t> known = ids.to_vector<std::int32_t>();
  std::vector<double> rows = dy.to_vector<double>();
  const auto width = static_cast<std::size_t>(dy.size(1));
  for (std::size_t i = 0; i < known.size(); ++i) {
    if (known[i] < 0 || known[i] >= dtable.size(0)) {
      known[i] = 0;
      std::fill_n(rows.begin() + static_cast<std::ptrdiff_t>(i * width), width, 0.0);
    }
  }
  kernels::embedding_backward(
      kernels::group_ids(Tensor::from(known, ids.shape(), cpu), dtable.size(0), cpu),
      Tensor::from(rows, dy.shape(), cpu), dtable, accumulate, cpu);
}

struct Size {
  std::int64_t count;
  std::int64_t vocabulary;
  std::int64_t width;
};

// With small sizes still several tiles of ids, and in narrow tables runs of many of them, more than
// there are pieces of one.
Size cut(const Size& size) {
  const std::int64_t most = std::min<std::int64_t>(20000, 60000 / size.width);
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
  std::size_t turn = 1;
  for (const DType dtype : kTypes) {
    const DType sums = accumulator_of(dtype);
    ++turn;  // so that a size's kind is another one with each dtype
    for (const Size& whole :
         {Size{0, 3, 4}, Size{1, 1, 1}, Size{31, 7, 5}, Size{32, 2, 8}, Size{33, 7, 8},
          Size{64, 40, 3}, Size{65, 3, 4}, Size{1000, 5003, 131}, Size{1024, 17, 1028},
          Size{4096, 255, 9}, Size{4097, 256, 1}, Size{20011, 5003, 48}, Size{65536, 1009, 12},
          Size{140011, 70001, 1}, Size{1100003, 307, 1}}) {
      const Size size = cut(whole);
      ++turn;
      for (const Ids kind : kKinds) {
        if (test::small_sizes() && kind != kKinds[turn % kKinds.size()])
          continue;
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
        add_known(ids, dy.rows(1, size.count), wanted, /*accumulate=*/false);
        add_known(ids, dy.rows(1, size.count), added, /*accumulate=*/true);

        const kernels::IdGroups groups =
            kernels::group_ids(test::to(ids, gpu), size.vocabulary, gpu);
        const Tensor gpu_dy = test::to(test::rounded(dy, dtype), gpu).rows(1, size.count);
        Tensor surrounded = test::poisoned({size.vocabulary + 2, size.width}, sums, gpu);
        Tensor dtable = surrounded.rows(1, size.vocabulary);
        kernels::embedding_backward(groups, gpu_dy, dtable, /*accumulate=*/false, gpu);
        HEW_CHECK_CLOSE(dtable, wanted, 0);
        for (const std::int64_t row : {std::int64_t{0}, size.vocabulary + 1}) {
          const Tensor outside = test::on_cpu(surrounded).rows(row, 1);
          for (const double value : test::rounded(outside, DType::kFloat64).to_vector<double>()) {
            REQUIRE(std::isnan(value));
          }
        }
        dtable.copy_from(test::to(test::rounded(before, sums), gpu));
        kernels::embedding_backward(groups, gpu_dy, dtable, /*accumulate=*/true, gpu);
        HEW_CHECK_CLOSE(dtable, added, 0);
      }
    }
  }
}

TEST_CASE("the gradient of a table on a GPU is the same bits again") {
  const Stream& gpu = test::gpu_stream();
  const Stream cpu = make_cpu_stream();
  for (const Ids kind : {Ids::kZipf, Ids::kAllEqual}) {
    const std::int64_t count = test::cut(140011, 1511);
    const Tensor ids = test::to(random_ids(kind, count, 503), gpu);
    const Tensor dy = test::to(test::random_tensor({count, 20}, DType::kFloat32, cpu, 1), gpu);
    std::vector<Tensor> tables;
    for (int i = 0; i < 2; ++i) {
      Tensor dtable = test::poisoned({503, 20}, DType::kFloat32, gpu);
      kernels::embedding_backward(kernels::group_ids(ids, 503, gpu), dy, dtable,
                                  /*accumulate=*/false, gpu);
      tables.push_back(test::on_cpu(dtable));
    }
    CHECK(test::same_bytes(tables[0], tables[1]));
  }
}

TEST_CASE("the gradient of a table on a GPU adds few positions in their order, as the CPU does") {
  const Stream& gpu = test::gpu_stream();
  const Stream cpu = make_cpu_stream();
  const std::int64_t vocabulary = 1031;
  const Tensor ids = random_ids(Ids::kUniform, 8009, vocabulary);
  const Tensor dy = test::random_tensor({8009, 5}, DType::kFloat32, cpu, 1);
  Tensor wanted = Tensor::empty({vocabulary, 5}, DType::kFloat32, cpu);
  kernels::embedding_backward(kernels::group_ids(ids, vocabulary, cpu), dy, wanted,
                              /*accumulate=*/false, cpu);
  Tensor dtable = test::poisoned({vocabulary, 5}, DType::kFloat32, gpu);
  kernels::embedding_backward(kernels::group_ids(test::to(ids, gpu), vocabulary, gpu),
                              test::to(dy, gpu), dtable, /*accumulate=*/false, gpu);
  CHECK(test::same_bytes(test::on_cpu(dtable), wanted));
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
  kernels::embedding_backward(kernels::group_ids(ids, 7, gpu), dy, dtable, /*accumulate=*/false,
                              gpu);
  CHECK(dtable.to_vector<double>() == std::vector<double>{8, 0, 17, 0, 0, 0, 0});
}

}  // namespace hew
