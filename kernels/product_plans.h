#pragma once

// Only for files that are compiled with CUDA.

#include <cublasLt.h>

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/handle.h"
#include "core/stream.h"
#include "kernels/product_settings.h"

namespace hew::kernels {

/// One product by cuBLASLt, in its column-major terms: d[rows, cols] ← op(a)·op(b), added to what d
/// holds if `accumulate`, then the epilogue. All matrices are dense.
struct Product {
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t depth = 0;
  cublasOperation_t op_a = CUBLAS_OP_N;
  cublasOperation_t op_b = CUBLAS_OP_N;
  cudaDataType_t in = CUDA_R_32F;
  cudaDataType_t out = CUDA_R_32F;
  cublasComputeType_t compute = CUBLAS_COMPUTE_32F;
  const void* a = nullptr;
  const void* b = nullptr;
  void* d = nullptr;
  bool accumulate = false;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  void* bias = nullptr;  // or its gradient, of d's type
  void* aux = nullptr;   // [rows, cols], of d's type
};

/// A call that can be carried out in several ways, each a product with an epilogue of the library
/// and kernels that do the rest.
class ProductCall {
 public:
  ProductCall() = default;
  ProductCall(const ProductCall&) = delete;
  ProductCall& operator=(const ProductCall&) = delete;
  virtual ~ProductCall() = default;

  /// The one to prefer first. The last is CUBLASLT_EPILOGUE_DEFAULT.
  virtual std::span<const cublasLtEpilogue_t> ways() const = 0;
  virtual Product product(cublasLtEpilogue_t way) const = 0;
  /// Queues what comes after the product.
  virtual void finish(cublasLtEpilogue_t way) const = 0;
  /// The same call on memory of its own; null where repeating the call itself does no harm.
  virtual std::unique_ptr<ProductCall> rehearsal() const = 0;
};

struct CublasLtTraits {
  using Value = cublasLtHandle_t;
  static Value null() { return nullptr; }
  static void destroy(Value handle) noexcept { cublasLtDestroy(handle); }
};

/// cuBLASLt on one stream: its handle, its workspace, and the search for the fastest algorithm.
class ProductPlans {
 public:
  explicit ProductPlans(const Stream& stream);
  ProductPlans(const ProductPlans&) = delete;
  ProductPlans& operator=(const ProductPlans&) = delete;
  ~ProductPlans();

  /// Queues the call, chosen as the stream's ProductSettings say: by the choice they hold for the
  /// key, else by a new one that they then hold. The key's library and device are filled in here.
  void run(const ProductCall& call, ProductKey key, const Stream& stream);

 private:
  std::vector<ProductChoice> candidates(const ProductCall& call) const;
  ProductChoice choose(const ProductCall& call, bool timed, const Stream& stream) const;
  ProductChoice fastest(const ProductCall& call, const std::vector<ProductChoice>& from,
                        const Stream& stream) const;
  double seconds(const ProductCall& call, const ProductChoice& choice, int repeats,
                 const Stream& stream) const;
  bool accepts(const ProductCall& call, const ProductChoice& choice) const;
  cublasStatus_t start(const Product& product, const ProductChoice& choice,
                       const Stream& stream) const;

  UniqueHandle<CublasLtTraits> handle_;
  std::shared_ptr<Allocator> allocator_;
  void* workspace_;
  int architecture_ = 0;
  int multiprocessors_ = 0;
};

/// The largest power of two up to 16 that divides the address; 0 for null.
std::int64_t alignment_of(const void* data);

}  // namespace hew::kernels
