#include "kernels/hash.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "core/error.h"
#include "core/rng.h"
#include "tests/support/device.h"
#include "tests/support/sizes.h"

namespace hew {
namespace {

using Bytes = std::vector<std::uint8_t>;

std::uint64_t hash_of(const Tensor& x) {
  Tensor hash = test::poisoned({1}, DType::kInt64, x.stream());
  kernels::hash_words(x, hash, x.stream());
  return static_cast<std::uint64_t>(hash.to_vector<std::int64_t>().front());
}

// On the tests' device, `shift` bytes behind where a tensor begins.
std::uint64_t hash_of(const Bytes& bytes, std::int64_t shift = 0) {
  Bytes padded(static_cast<std::size_t>(shift), 0xab);
  padded.insert(padded.end(), bytes.begin(), bytes.end());
  const Tensor whole = Tensor::from(padded, {std::ssize(padded)}, test::test_stream());
  return hash_of(whole.rows(shift, std::ssize(bytes)));
}

std::uint64_t reference(const Bytes& bytes) {
  std::uint64_t sum = 0;
  for (std::size_t at = 0; at < bytes.size(); at += 8) {
    std::uint64_t word = 0;
    for (std::size_t i = at; i < std::min(at + 8, bytes.size()); ++i)
      word |= std::uint64_t{bytes[i]} << (8 * (i - at));
    sum += kernels::mix_word(word, at / 8);
  }
  return sum;
}

Bytes random_bytes(std::int64_t count, std::uint64_t seed) {
  Bytes bytes;
  for (std::int64_t i = 0; i < count; ++i) {
    bytes.push_back(
        static_cast<std::uint8_t>(philox(seed, 0, static_cast<std::uint64_t>(i)).front()));
  }
  return bytes;
}

}  // namespace

TEST_CASE("hash_words is what another implementation makes of the same bytes") {
  CHECK(hash_of(Bytes{}) == 0);
  CHECK(hash_of(Bytes{'a'}) == 0xFB761138E1E0A78CU);
  Bytes counted;
  for (int i = 0; i < 200; ++i) counted.push_back(static_cast<std::uint8_t>(i));
  CHECK(hash_of(counted) == 0xD186EC8470017183U);
}

TEST_CASE("hash_words on any device, of any length and from any address") {
  for (const std::int64_t whole : {0, 1, 7, 8, 9, 15, 16, 17, 31, 1021, 4096, 100003, 3000001}) {
    const std::int64_t count = test::cut(whole, 100003);
    const Bytes bytes = random_bytes(count, 3);
    const std::uint64_t expected = reference(bytes);
    for (const std::int64_t shift : {0, 1, 2, 4, 8, 13, 16}) {
      CAPTURE(count);
      CAPTURE(shift);
      CHECK(hash_of(bytes, shift) == expected);
    }
  }
}

TEST_CASE("hash_words takes every dtype as its bytes") {
  const Stream& stream = test::test_stream();
  const Bytes bytes = random_bytes(48, 4);
  const std::uint64_t expected = reference(bytes);
  for (const DType dtype : {DType::kFloat32, DType::kFloat64, DType::kBFloat16, DType::kInt32,
                            DType::kInt64, DType::kUInt16, DType::kUInt8}) {
    Tensor host = Tensor::empty({48 / size_of(dtype)}, dtype, make_cpu_stream());
    std::memcpy(host.view().data, bytes.data(), bytes.size());
    CHECK(hash_of(test::to(host, stream)) == expected);
  }
}

TEST_CASE("a flipped bit and swapped words are found anywhere") {
  const Bytes bytes = random_bytes(8 * 16 + 5, 5);
  std::set<std::uint64_t> seen{hash_of(bytes)};
  for (std::size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    Bytes flipped = bytes;
    flipped[bit / 8] = static_cast<std::uint8_t>(flipped[bit / 8] ^ (1U << (bit % 8)));
    seen.insert(hash_of(flipped));
  }
  for (std::size_t a = 0; a < 16; ++a) {
    for (std::size_t b = 0; b < a; ++b) {
      Bytes swapped = bytes;
      const auto begin = swapped.begin();
      std::swap_ranges(begin + static_cast<std::ptrdiff_t>(8 * a),
                       begin + static_cast<std::ptrdiff_t>(8 * a + 8),
                       begin + static_cast<std::ptrdiff_t>(8 * b));
      seen.insert(hash_of(swapped));
    }
  }
  CHECK(seen.size() == 1 + 8 * bytes.size() + 16 * 15 / 2);
  CHECK(hash_of(Bytes(8, 0)) != hash_of(Bytes(16, 0)));
}

TEST_CASE("hash_words finds one bit in millions of words") {
  Bytes bytes(8 << 20, 0);
  const std::uint64_t zeros = hash_of(bytes);
  for (const std::size_t at : {std::size_t{0}, bytes.size() / 2 + 3, bytes.size() - 1}) {
    bytes[at] = 1;
    CHECK(hash_of(bytes) != zeros);
    bytes[at] = 0;
  }
}

TEST_CASE("hash_words refuses what does not fit") {
  const Stream cpu = make_cpu_stream();
  const Tensor x = Tensor::zeros({3}, DType::kFloat32, cpu);
  Tensor two = Tensor::zeros({2}, DType::kInt64, cpu);
  Tensor floating = Tensor::zeros({1}, DType::kFloat64, cpu);
  CHECK_THROWS_AS(kernels::hash_words(x, two, cpu), ShapeError);
  CHECK_THROWS_AS(kernels::hash_words(x, floating, cpu), DtypeError);
}

}  // namespace hew
