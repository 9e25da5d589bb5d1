#include <doctest/doctest.h>

#include <bit>
#include <optional>
#include <vector>

#include "core/cuda_device.h"
#include "kernels/bsr.h"
#include "kernels/bsr_routes.h"
#include "kernels/hopper/packing.h"
#include "kernels/product_settings.h"
#include "tests/support/block_pattern.h"
#include "tests/support/compare.h"
#include "tests/support/gpu_input.h"
#include "tests/support/sizes.h"

/// Operands packed for the products of Hopper's own instructions, by themselves and in products.

namespace hew {
namespace {

using kernels::Activation;
using kernels::hopper::BsrPacking;
using test::BlockPattern;
using test::gpu_stream;
using test::random_pattern;

constexpr std::int64_t kTile = 256;

// What can be packed: bfloat16, and float32 that is multiplied as tf32.
struct Kind {
  DType dtype;
  std::int64_t block;
};
constexpr Kind kKinds[] = {{DType::kBFloat16, 16}, {DType::kBFloat16, 32}, {DType::kFloat32, 16}};

bool on_hopper() {
  return cuda::compute_capability(gpu_stream()) == 90;
}

// The bits of all elements; of float32, where asked for, those of the nearest tf32, ties to even.
std::vector<std::uint32_t> bits_of(const Tensor& tensor, bool rounds) {
  std::vector<std::uint32_t> bits;
  if (tensor.dtype() == DType::kBFloat16) {
    for (const BFloat16 v : test::on_cpu(tensor).to_vector<BFloat16>()) bits.push_back(v.bits);
    return bits;
  }
  constexpr std::uint32_t kBelowHalf = 0x0FFF;
  constexpr std::uint32_t kCut = 0x1FFF;
  for (const float v : test::on_cpu(tensor).to_vector<float>()) {
    const auto word = std::bit_cast<std::uint32_t>(v);
    bits.push_back(rounds ? (word + kBelowHalf + (word >> 13 & 1)) & ~kCut : word);
  }
  return bits;
}

// Where element e of row r of a run of rows [block] lies in it: pieces of 16 bytes are exchanged.
std::size_t place(std::int64_t r, std::int64_t e, const Kind& kind) {
  const std::int64_t per_piece = 16 / size_of(kind.dtype);
  const std::int64_t pieces = kind.block / per_piece;  // of a row
  const std::int64_t piece = e / per_piece ^ r / (8 / pieces) % pieces;
  return static_cast<std::size_t>(r * kind.block + piece * per_piece + e % per_piece);
}

// Normal values on the GPU; of float32 every third lies halfway between two tf32.
Tensor with_ties(const Shape& shape, DType dtype, std::uint64_t seed) {
  Tensor out = test::gpu_input(shape, dtype, seed).gpu;
  if (dtype != DType::kFloat32)
    return out;
  std::vector<float> values = test::on_cpu(out).to_vector<float>();
  for (std::size_t i = 0; i < values.size(); i += 3) {
    const auto word = std::bit_cast<std::uint32_t>(values[i]);
    values[i] = std::bit_cast<float>((word & ~0x1FFFU) | 0x1000U);
  }
  return Tensor::from(values, shape, gpu_stream());
}

void check_packed_tokens(std::int64_t tokens, std::int64_t width, const Kind& kind) {
  const std::int64_t tiles = (tokens + kTile - 1) / kTile;
  const std::int64_t columns = (width + kind.block - 1) / kind.block;
  const Tensor in = with_ties({tokens, width}, kind.dtype, 5);
  Tensor out = test::poisoned({tiles, columns, kTile, kind.block}, kind.dtype, gpu_stream());
  kernels::hopper::pack_tokens(kernels::Cuda{gpu_stream()}, in, out);
  const std::vector<std::uint32_t> given = bits_of(in, /*rounds=*/true);
  std::vector<std::uint32_t> wanted(static_cast<std::size_t>(out.numel()), 0);
  for (std::int64_t m = 0; m < tokens; ++m) {
    for (std::int64_t k = 0; k < width; ++k) {
      const std::int64_t run = (m / kTile * columns + k / kind.block) * kTile * kind.block;
      wanted[static_cast<std::size_t>(run) + place(m % kTile, k % kind.block, kind)] =
          given[static_cast<std::size_t>(m * width + k)];
    }
  }
  CHECK(bits_of(out, /*rounds=*/false) == wanted);
}

void check_packed_blocks(std::int64_t nnzb, const Kind& kind) {
  const std::int64_t b = kind.block;
  const Tensor blocks = with_ties({nnzb, b, b}, kind.dtype, 6);
  Tensor out = test::poisoned(blocks.shape(), kind.dtype, gpu_stream());
  kernels::hopper::pack_blocks(kernels::Cuda{gpu_stream()}, blocks, out);
  const std::vector<std::uint32_t> given = bits_of(blocks, /*rounds=*/true);
  std::vector<std::uint32_t> wanted(given.size());
  for (std::int64_t i = 0; i < std::ssize(given); ++i) {
    wanted[static_cast<std::size_t>(i / (b * b) * b * b) + place(i / b % b, i % b, kind)] =
        given[static_cast<std::size_t>(i)];
  }
  CHECK(bits_of(out, /*rounds=*/false) == wanted);
}

enum class Factors { kExact, kRounded };

// The products of one pattern, whose factors are exact, or have to be rounded to tf32.
class Products {
 public:
  struct Results {
    Tensor y, pre, dx, dbias;
  };

  Products(const BlockPattern& pattern, std::int64_t tokens, DType dtype, Factors factors)
      : pattern_(pattern),
        uploaded_(pattern, gpu_stream()),
        dtype_(dtype),
        x_(exact({tokens, pattern.cols}, 1)),
        dy_(exact({tokens, pattern.rows}, 2)),
        values_(exact(pattern.values_shape(), 3)),
        bias_(exact({pattern.rows}, 4)) {
    if (factors == Factors::kRounded) {
      x_.gpu = with_ties({tokens, pattern.cols}, dtype, 1);
      dy_.gpu = with_ties({tokens, pattern.rows}, dtype, 2);
    }
    const Stream& gpu = gpu_stream();
    gpu.state->get<kernels::ProductSettings>(gpu).tf32 = dtype == DType::kFloat32;
    gpu.state->get<kernels::BsrSettings>(gpu).folding = kernels::BsrFolding::kOwn;
  }
  ~Products() {
    const Stream& gpu = gpu_stream();
    gpu.state->get<kernels::ProductSettings>(gpu).tf32 = false;
    gpu.state->get<kernels::BsrSettings>(gpu).folding = kernels::BsrFolding::kAuto;
    gpu.state->get<kernels::BsrSettings>(gpu).packing = std::nullopt;
    gpu.state->get<kernels::BsrSettings>(gpu).tall = std::nullopt;
  }
  Products(const Products&) = delete;
  Products& operator=(const Products&) = delete;

  Results run(BsrPacking packing, bool tall) const {
    const Stream& gpu = gpu_stream();
    gpu.state->get<kernels::BsrSettings>(gpu).packing = packing;
    gpu.state->get<kernels::BsrSettings>(gpu).tall = tall;
    Results out{.y = test::poisoned(dy_.gpu.shape(), dtype_, gpu),
                .pre = test::poisoned(dy_.gpu.shape(), dtype_, gpu),
                .dx = test::poisoned(x_.gpu.shape(), dtype_, gpu),
                .dbias = test::poisoned({pattern_.cols}, DType::kFloat32, gpu)};
    kernels::bsr_forward({.x = x_.gpu,
                          .values = values_.gpu,
                          .index = uploaded_.index(),
                          .bias = bias_.gpu,
                          .activation = Activation::kRelu,
                          .y = out.y,
                          .pre = out.pre},
                         gpu);
    kernels::bsr_input_gradient({.dy = dy_.gpu,
                                 .values = values_.gpu,
                                 .index = uploaded_.index(),
                                 .dx = out.dx,
                                 .activation = Activation::kRelu,
                                 .pre = x_.gpu,
                                 .dbias = out.dbias},
                                gpu);
    return out;
  }

  // Against the CPU's in float64.
  void check(const Results& got) const {
    const Stream cpu = make_cpu_stream();
    Tensor y = Tensor::empty(dy_.wide.shape(), DType::kFloat64, cpu);
    Tensor dx = Tensor::empty(x_.wide.shape(), DType::kFloat64, cpu);
    kernels::bsr_forward({.x = x_.wide,
                          .values = values_.wide,
                          .index = pattern_.index(),
                          .bias = bias_.wide,
                          .y = y},
                         cpu);
    kernels::bsr_input_gradient({.dy = dy_.wide,
                                 .values = values_.wide,
                                 .index = pattern_.index(),
                                 .dx = dx,
                                 .activation = Activation::kRelu,
                                 .pre = x_.wide},
                                cpu);
    const double u = test::unit_roundoff(dtype_);
    HEW_CHECK_CLOSE(test::on_cpu(got.pre), y, u, tolerance(pattern_.cols));
    HEW_CHECK_CLOSE(test::on_cpu(got.dx), dx, u, tolerance(pattern_.rows));
  }

  // Sums over the tokens, taken in another order.
  void check_sums(const Results& got, const Results& wanted) const {
    const auto tokens = static_cast<double>(x_.gpu.size(0));
    HEW_CHECK_CLOSE(test::on_cpu(got.dbias), test::on_cpu(wanted.dbias), 0,
                    1e-4 * tokens * std::sqrt(static_cast<double>(pattern_.rows)));
  }

 private:
  test::GpuInput exact(const Shape& shape, std::uint64_t seed) const {
    const Tensor wide = test::random_tensor(shape, DType::kFloat64, make_cpu_stream(), seed);
    return test::gpu_input(test::rounded(wide, DType::kBFloat16), dtype_);
  }
  // As in bsr_cuda_test.cc, of a sum of `depth` products of normal values.
  static double tolerance(std::int64_t depth) {
    const auto terms = static_cast<double>(depth) + 2;
    return terms * test::unit_roundoff(DType::kFloat32) * 8 * std::sqrt(terms);
  }

  BlockPattern pattern_;
  test::UploadedPattern uploaded_;
  DType dtype_;
  test::GpuInput x_;
  test::GpuInput dy_;
  test::GpuInput values_;
  test::GpuInput bias_;
};

void check_packed(const Products& products, const Products::Results& boxes, bool tall) {
  CAPTURE(tall);
  for (const auto packing :
       {BsrPacking::kValues, BsrPacking::kInput, BsrPacking::kBoth, BsrPacking::kCopied}) {
    CAPTURE(name_of(packing));
    const Products::Results packed = products.run(packing, tall);
    CHECK(test::same_bytes(test::on_cpu(packed.y), test::on_cpu(boxes.y)));
    CHECK(test::same_bytes(test::on_cpu(packed.pre), test::on_cpu(boxes.pre)));
    CHECK(test::same_bytes(test::on_cpu(packed.dx), test::on_cpu(boxes.dx)));
    CHECK(test::same_bytes(test::on_cpu(packed.dbias), test::on_cpu(boxes.dbias)));
  }
}

// Packed or not, the products are the same bits, and those are right. So are those of tall tiles,
// but for the order of the sums over tokens.
void check_products(const BlockPattern& pattern, std::int64_t tokens, const Kind& kind) {
  CAPTURE(pattern.rows);
  CAPTURE(pattern.nnzb());
  CAPTURE(tokens);
  const Products products(pattern, tokens, kind.dtype, Factors::kExact);
  const Products::Results boxes = products.run(BsrPacking::kNone, /*tall=*/false);
  products.check(boxes);
  check_packed(products, boxes, /*tall=*/false);
  if (kind.dtype == DType::kFloat32) {
    const Products rounded(pattern, tokens, kind.dtype, Factors::kRounded);
    check_packed(rounded, rounded.run(BsrPacking::kNone, /*tall=*/false), /*tall=*/false);
  }
  if (kind.dtype != DType::kBFloat16 || kind.block != 32)
    return;
  const Products::Results tall = products.run(BsrPacking::kNone, /*tall=*/true);
  products.check(tall);
  products.check_sums(tall, boxes);
  check_packed(products, tall, /*tall=*/true);
}

}  // namespace

TEST_CASE("packed tokens lie in tiles as wgmma reads them, zeros beyond the edges") {
  if (!on_hopper())
    return;
  for (const Kind& kind : kKinds) {
    CAPTURE(name_of(kind.dtype));
    CAPTURE(kind.block);
    for (const std::int64_t tokens : {1, 63, 64, 255, 257, 1031}) {
      CAPTURE(tokens);
      for (const std::int64_t width : {8, 32, 40, 256, 264, 520}) {
        CAPTURE(width);
        if (test::small_sizes() && tokens * width > 100000)
          continue;
        check_packed_tokens(tokens, width, kind);
      }
    }
  }
}

TEST_CASE("packed blocks lie as wgmma reads them") {
  if (!on_hopper())
    return;
  for (const Kind& kind : kKinds) {
    CAPTURE(name_of(kind.dtype));
    CAPTURE(kind.block);
    for (const std::int64_t nnzb : {1, 7, 83}) check_packed_blocks(nnzb, kind);
  }
}

TEST_CASE("block-sparse products on a Hopper are the same bits of packed operands") {
  for (const Kind& kind : kKinds) {
    const std::int64_t b = kind.block;
    CAPTURE(name_of(kind.dtype));
    CAPTURE(b);
    for (const std::int64_t tokens : {1, 255, 513}) {
      check_products(random_pattern(3 * b, 4 * b + 8, b, 0.5, 7), tokens, kind);
      check_products(random_pattern(20 * b + 8, 9 * b, b, 0.2, 8), tokens, kind);
    }
    check_products(random_pattern(5 * b, 6 * b, b, 0, 8), 40, kind);
    const std::int64_t tokens = test::cut(1000, 300);
    for (const double density : {0.05, 0.3, 1.0}) {
      if (density == 1 && test::small_sizes())
        continue;
      check_products(random_pattern(1024 - 24, 1536 - 8, b, density, 9), tokens, kind);
    }
    // One row and one column have many times as many blocks as the others.
    check_products(test::make_pattern(1024, 1536, b,
                                      [](std::int64_t r, std::int64_t c) {
                                        return r == 3 || c == 5 || (r + c) % 16 == 0;
                                      }),
                   tokens, kind);
  }
}

// More tiles than multiprocessors.
TEST_CASE("many rounds of block-sparse products are the same bits of packed operands") {
  for (const Kind& kind : kKinds) {
    CAPTURE(name_of(kind.dtype));
    CAPTURE(kind.block);
    check_products(random_pattern(10 * 128, 6 * 128, kind.block, 0.3, 12), test::cut(9000, 600),
                   kind);
  }
}

}  // namespace hew
