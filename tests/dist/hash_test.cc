#include "dist/hash.h"

#include <doctest/doctest.h>

#include <set>
#include <string_view>

#include "tests/support/device.h"
#include "tests/support/random.h"

namespace hew {
namespace {

std::uint64_t xxh64_of(std::string_view text) {
  return dist::xxh64(std::as_bytes(std::span(text)));
}

std::uint64_t hash_of(const Tensor& tensor) {
  return dist::hashes_of({&tensor, 1}).front();
}

}  // namespace

// Values from xxHash 0.8.4.
TEST_CASE("xxh64 agrees with the reference implementation, past each of its block sizes") {
  CHECK(xxh64_of("") == 0xEF46DB3751D8E999U);
  CHECK(xxh64_of("a") == 0xD24EC4F1A98C6E5BU);
  CHECK(xxh64_of("abc") == 0x44BC2CF5AD770999U);
  CHECK(xxh64_of("0123456789abcdef0123456789abcdef0123456789ABC") == 0xD94881A8C9129F3FU);
}

TEST_CASE("the hash of a tensor sees every bit, its shape and its dtype") {
  const Stream cpu = make_cpu_stream();
  const Tensor t = test::random_tensor({6, 5}, DType::kFloat32, cpu, 1);
  std::set<std::uint64_t> seen{hash_of(t), hash_of(t.reshape({5, 6})), hash_of(t.reshape({30}))};
  CHECK(hash_of(t.clone()) == hash_of(t));
  for (std::size_t bit = 0; bit < 30 * 32; ++bit) {
    Tensor flipped = t.clone();
    static_cast<unsigned char*>(flipped.view().data)[bit / 8] ^=
        static_cast<unsigned char>(1U << (bit % 8));
    seen.insert(hash_of(flipped));
  }
  seen.insert(hash_of(Tensor::zeros({4}, DType::kFloat32, cpu)));
  seen.insert(hash_of(Tensor::zeros({4}, DType::kInt32, cpu)));
  seen.insert(hash_of(Tensor::zeros({0}, DType::kInt32, cpu)));
  CHECK(seen.size() == 3 + 30 * 32 + 3);
}

TEST_CASE("tensors of the host and of a GPU have one hash, in any mixture") {
  const Stream cpu = make_cpu_stream();
  std::vector<Tensor> here;
  std::vector<Tensor> mixed;
  std::vector<std::uint64_t> alone;
  for (std::uint64_t i = 0; i < 9; ++i) {
    const auto n = static_cast<std::int64_t>(1000 * i);
    here.push_back(test::random_tensor({n}, DType::kFloat32, cpu, i));
    mixed.push_back(i % 3 == 0 ? here.back() : test::to(here.back(), test::test_stream()));
    alone.push_back(hash_of(here.back()));
  }
  CHECK(dist::hashes_of(here) == alone);
  CHECK(dist::hashes_of(mixed) == alone);
  CHECK(dist::hashes_of({}).empty());
}

}  // namespace hew
