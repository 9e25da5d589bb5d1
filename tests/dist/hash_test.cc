#include "dist/hash.h"

#include <doctest/doctest.h>

#include <set>
#include <string_view>

#include "tests/support/random.h"

namespace hew {
namespace {

std::uint64_t xxh64_of(std::string_view text) {
  return dist::xxh64(std::as_bytes(std::span(text)));
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
  std::set<std::uint64_t> seen{dist::hash_of(t), dist::hash_of(t.reshape({5, 6})),
                               dist::hash_of(t.reshape({30}))};
  CHECK(dist::hash_of(t.clone()) == dist::hash_of(t));
  for (std::size_t bit = 0; bit < 30 * 32; ++bit) {
    Tensor flipped = t.clone();
    static_cast<unsigned char*>(flipped.view().data)[bit / 8] ^=
        static_cast<unsigned char>(1U << (bit % 8));
    seen.insert(dist::hash_of(flipped));
  }
  seen.insert(dist::hash_of(Tensor::zeros({4}, DType::kFloat32, cpu)));
  seen.insert(dist::hash_of(Tensor::zeros({4}, DType::kInt32, cpu)));
  seen.insert(dist::hash_of(Tensor::zeros({0}, DType::kInt32, cpu)));
  CHECK(seen.size() == 3 + 30 * 32 + 3);
}

}  // namespace hew
