#include "dist/hash.h"

#include <array>
#include <bit>
#include <cstring>
#include <iterator>

#include "kernels/hash.h"

namespace hew::dist {
namespace {

constexpr std::uint64_t kPrime1 = 0x9E3779B185EBCA87U;
constexpr std::uint64_t kPrime2 = 0xC2B2AE3D27D4EB4FU;
constexpr std::uint64_t kPrime3 = 0x165667B19E3779F9U;
constexpr std::uint64_t kPrime4 = 0x85EBCA77C2B2AE63U;
constexpr std::uint64_t kPrime5 = 0x27D4EB2F165667C5U;

template <class Word>
std::uint64_t read(const std::byte* from) {
  Word word{};
  std::memcpy(&word, from, sizeof(word));
  return word;
}

std::uint64_t round(std::uint64_t lane, std::uint64_t word) {
  return std::rotl(lane + word * kPrime2, 31) * kPrime1;
}

// With the shape and dtype, without which equal sums are no equal tensors.
std::uint64_t whole_hash(const Tensor& tensor, std::int64_t sum) {
  std::uint64_t seed = static_cast<std::uint64_t>(tensor.dtype());
  for (const std::int64_t extent : tensor.shape()) {
    seed = round(seed, static_cast<std::uint64_t>(extent));
  }
  return xxh64(std::as_bytes(std::span(&sum, 1)), seed);
}

// Of the tensors on such a device, which is one and the same: the host waits for it once.
template <class Wanted>
void hash_where(const Wanted& wanted, std::span<const Tensor> tensors,
                std::vector<std::uint64_t>& hashes) {
  std::vector<std::size_t> chosen;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (wanted(tensors[i].device()))
      chosen.push_back(i);
  }
  if (chosen.empty())
    return;
  const Stream& stream = tensors[chosen.front()].stream();
  Tensor sums = Tensor::empty({std::ssize(chosen)}, DType::kInt64, stream);
  for (std::size_t k = 0; k < chosen.size(); ++k) {
    Tensor sum = sums.rows(static_cast<std::int64_t>(k), 1);
    kernels::hash_words(tensors[chosen[k]], sum, stream);
  }
  const std::vector<std::int64_t> values = sums.to_vector<std::int64_t>();
  for (std::size_t k = 0; k < chosen.size(); ++k) {
    hashes[chosen[k]] = whole_hash(tensors[chosen[k]], values[k]);
  }
}

}  // namespace

std::uint64_t xxh64(std::span<const std::byte> bytes, std::uint64_t seed) {
  const std::byte* p = bytes.data();
  std::size_t left = bytes.size();
  std::uint64_t hash = seed + kPrime5;
  if (left >= 32) {
    std::array<std::uint64_t, 4> lanes{seed + kPrime1 + kPrime2, seed + kPrime2, seed,
                                       seed - kPrime1};
    for (; left >= 32; left -= 32, p += 32) {
      for (std::size_t i = 0; i < 4; ++i) {
        lanes[i] = round(lanes[i], read<std::uint64_t>(p + 8 * i));
      }
    }
    hash = std::rotl(lanes[0], 1) + std::rotl(lanes[1], 7) + std::rotl(lanes[2], 12) +
           std::rotl(lanes[3], 18);
    for (const std::uint64_t lane : lanes) hash = (hash ^ round(0, lane)) * kPrime1 + kPrime4;
  }
  hash += bytes.size();
  for (; left >= 8; left -= 8, p += 8) {
    hash = std::rotl(hash ^ round(0, read<std::uint64_t>(p)), 27) * kPrime1 + kPrime4;
  }
  for (; left >= 4; left -= 4, p += 4) {
    hash = std::rotl(hash ^ (read<std::uint32_t>(p) * kPrime1), 23) * kPrime2 + kPrime3;
  }
  for (; left > 0; --left, ++p) {
    hash = std::rotl(hash ^ (read<std::uint8_t>(p) * kPrime5), 11) * kPrime1;
  }
  hash = (hash ^ (hash >> 33U)) * kPrime2;
  hash = (hash ^ (hash >> 29U)) * kPrime3;
  return hash ^ (hash >> 32U);
}

std::vector<std::uint64_t> hashes_of(std::span<const Tensor> tensors) {
  std::vector<std::uint64_t> hashes(tensors.size());
  hash_where([](Device device) { return device.is_cpu(); }, tensors, hashes);
  hash_where([](Device device) { return device.is_cuda(); }, tensors, hashes);
  return hashes;
}

}  // namespace hew::dist
