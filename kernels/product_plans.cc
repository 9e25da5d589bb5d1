#include "kernels/product_plans.h"

#include <algorithm>
#include <array>
#include <limits>
#include <new>
#include <source_location>
#include <utility>

#include "core/cuda_check.h"
#include "core/cuda_device.h"

namespace hew::kernels {
namespace {

constexpr std::int64_t kWorkspaceBytes = std::int64_t{64} << 20U;
constexpr int kCandidates = 8;  // asked for, of each way
// A candidate that is this much slower than another in one trial is not tried again.
constexpr double kHopeless = 1.3;
constexpr int kTrials = 5;
// A trial repeats a short call, so that the host's part of it is not what is measured.
constexpr double kTrialSeconds = 200e-6;
constexpr int kMaxRepeats = 16;
constexpr std::int64_t kAlignment = 16;

void check(cublasStatus_t status, std::string_view api,
           std::source_location where = std::source_location::current()) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw BackendError(api, static_cast<int>(status), cublasLtGetStatusString(status), where);
}

// The library's description of a product. Plain memory: made anew for every call.
class Description {
 public:
  explicit Description(const Product& p) {
    const bool is_double = p.compute == CUBLAS_COMPUTE_64F;
    check(cublasLtMatmulDescInit(&operation, p.compute, is_double ? CUDA_R_64F : CUDA_R_32F),
          "cublasLtMatmulDescInit");
    set(CUBLASLT_MATMUL_DESC_TRANSA, static_cast<std::int32_t>(p.op_a));
    set(CUBLASLT_MATMUL_DESC_TRANSB, static_cast<std::int32_t>(p.op_b));
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, static_cast<std::uint32_t>(p.epilogue));
    if (p.bias != nullptr)
      set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, p.bias);
    if (p.aux != nullptr) {
      set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, p.aux);
      set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, p.rows);
    }
    layout(a, p.in, p.rows, p.depth, p.op_a);
    layout(b, p.in, p.depth, p.cols, p.op_b);
    layout(d, p.out, p.rows, p.cols, CUBLAS_OP_N);
  }

  cublasLtMatmulDescOpaque_t operation{};
  cublasLtMatrixLayoutOpaque_t a{};
  cublasLtMatrixLayoutOpaque_t b{};
  cublasLtMatrixLayoutOpaque_t d{};

 private:
  template <class Value>
  void set(cublasLtMatmulDescAttributes_t attribute, const Value& value) {
    check(cublasLtMatmulDescSetAttribute(&operation, attribute, &value, sizeof(value)),
          "cublasLtMatmulDescSetAttribute");
  }

  // Of the matrix in memory, where op(it) is rows × cols.
  static void layout(cublasLtMatrixLayoutOpaque_t& out, cudaDataType_t type, std::int64_t rows,
                     std::int64_t cols, cublasOperation_t op) {
    if (op != CUBLAS_OP_N)
      std::swap(rows, cols);
    check(cublasLtMatrixLayoutInit(&out, type, static_cast<std::uint64_t>(rows),
                                   static_cast<std::uint64_t>(cols), rows),
          "cublasLtMatrixLayoutInit");
  }
};

class Preference {
 public:
  explicit Preference(const Product& p) {
    check(cublasLtMatmulPreferenceInit(&value), "cublasLtMatmulPreferenceInit");
    set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<std::size_t>(kWorkspaceBytes));
    // Parts of a sum meet in a fixed order and in the type they were computed in, or not at all.
    set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
        static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
    align(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, p.a);
    align(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, p.b);
    align(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, p.d);
    align(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, p.d);
  }

  cublasLtMatmulPreferenceOpaque_t value{};

 private:
  template <class Value>
  void set(cublasLtMatmulPreferenceAttributes_t attribute, const Value& to) {
    check(cublasLtMatmulPreferenceSetAttribute(&value, attribute, &to, sizeof(to)),
          "cublasLtMatmulPreferenceSetAttribute");
  }
  void align(cublasLtMatmulPreferenceAttributes_t attribute, const void* data) {
    set(attribute, static_cast<std::uint32_t>(alignment_of(data)));
  }
};

cublasLtMatmulAlgo_t algorithm_of(const ProductChoice& choice) {
  cublasLtMatmulAlgo_t algorithm{};
  static_assert(sizeof(algorithm.data) == sizeof(choice.algorithm));
  std::copy(choice.algorithm.begin(), choice.algorithm.end(), std::begin(algorithm.data));
  return algorithm;
}

ProductChoice choice_of(cublasLtEpilogue_t way, const cublasLtMatmulAlgo_t& algorithm) {
  ProductChoice choice{.epilogue = static_cast<std::uint32_t>(way), .verified = true};
  std::copy(std::begin(algorithm.data), std::end(algorithm.data), choice.algorithm.begin());
  return choice;
}

cublasLtEpilogue_t way_of(const ProductChoice& choice) {
  return static_cast<cublasLtEpilogue_t>(choice.epilogue);
}

// Calls in one trial of what takes so long; one if it cannot be run at all.
int repeats_for(double seconds) {
  constexpr double kShortest = 1e-9;
  return static_cast<int>(
      std::clamp(kTrialSeconds / std::max(seconds, kShortest), 1.0, double{kMaxRepeats}));
}

bool is_capturing(const Stream& stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  cuda::check(cudaStreamIsCapturing(cuda::native(stream), &status), "cudaStreamIsCapturing");
  return status != cudaStreamCaptureStatusNone;
}

int attribute_of(cudaDeviceAttr attribute, int device) {
  int value = 0;
  cuda::check(cudaDeviceGetAttribute(&value, attribute, device), "cudaDeviceGetAttribute");
  return value;
}

std::int64_t size_of(cudaDataType_t type) {
  if (type == CUDA_R_16BF)
    return 2;
  return type == CUDA_R_64F ? 8 : 4;
}

cublasLtHandle_t make_handle() {
  cublasLtHandle_t handle = nullptr;
  check(cublasLtCreate(&handle), "cublasLtCreate");
  return handle;
}

}  // namespace

std::int64_t alignment_of(const void* data) {
  const auto address = reinterpret_cast<std::uintptr_t>(data);
  const auto lowest = static_cast<std::int64_t>(address & (~address + 1));
  return std::clamp<std::int64_t>(lowest, 0, kAlignment);
}

ProductPlans::ProductPlans(const Stream& stream)
    : handle_(make_handle()),
      allocator_(stream.allocator),
      workspace_(allocator_->allocate(kWorkspaceBytes)),
      architecture_(10 * attribute_of(cudaDevAttrComputeCapabilityMajor, stream.device.index) +
                    attribute_of(cudaDevAttrComputeCapabilityMinor, stream.device.index)),
      multiprocessors_(attribute_of(cudaDevAttrMultiProcessorCount, stream.device.index)) {}

ProductPlans::~ProductPlans() {
  allocator_->release(workspace_, kWorkspaceBytes);
}

void ProductPlans::run(const ProductCall& call, ProductKey key, const Stream& stream) {
  const Product plain = call.product(CUBLASLT_EPILOGUE_DEFAULT);
  if (plain.rows == 0 || plain.cols == 0 || plain.depth == 0) {
    const std::int64_t bytes = plain.rows * plain.cols * size_of(plain.out);
    if (bytes > 0 && !plain.accumulate)
      cuda::zero(plain.d, bytes, stream);
    return call.finish(CUBLASLT_EPILOGUE_DEFAULT);
  }
  auto& settings = stream.state->get<ProductSettings>(stream);
  key.library = static_cast<std::int64_t>(cublasLtGetVersion());
  key.architecture = architecture_;
  key.multiprocessors = multiprocessors_;
  key.deterministic = settings.deterministic ? 1 : 0;
  auto found = settings.choices.find(key);
  if (found == settings.choices.end() || !accepts(call, found->second)) {
    const ProductChoice choice = choose(call, !settings.deterministic, stream);
    found = settings.choices.insert_or_assign(key, choice).first;
  }
  ProductChoice& choice = found->second;
  choice.verified = true;
  const cublasLtEpilogue_t way = way_of(choice);
  check(start(call.product(way), choice, stream), "cublasLtMatmul");
  call.finish(way);
}

std::vector<ProductChoice> ProductPlans::candidates(const ProductCall& call) const {
  std::vector<ProductChoice> out;
  for (const cublasLtEpilogue_t way : call.ways()) {
    const Product product = call.product(way);
    Description with(product);
    Preference preference(product);
    std::array<cublasLtMatmulHeuristicResult_t, kCandidates> results{};
    int count = 0;
    // Refused where the library has nothing for this type, shape, alignment or epilogue.
    const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
        handle_.get(), &with.operation, &with.a, &with.b, &with.d, &with.d, &preference.value,
        kCandidates, results.data(), &count);
    if (status != CUBLAS_STATUS_SUCCESS) {
      if (way == CUBLASLT_EPILOGUE_DEFAULT && out.empty())
        check(status, "cublasLtMatmulAlgoGetHeuristic");
      continue;
    }
    for (const auto& result : std::span(results).first(static_cast<std::size_t>(count))) {
      if (result.state == CUBLAS_STATUS_SUCCESS)
        out.push_back(choice_of(way, result.algo));
    }
  }
  return out;
}

ProductChoice ProductPlans::choose(const ProductCall& call, bool timed,
                                   const Stream& stream) const {
  const std::vector<ProductChoice> from = candidates(call);
  if (from.empty())
    check(CUBLAS_STATUS_NOT_SUPPORTED, "cublasLtMatmulAlgoGetHeuristic");
  if (from.size() == 1 || !timed || is_capturing(stream))
    return from.front();
  try {
    const std::unique_ptr<ProductCall> rehearsal = call.rehearsal();
    return fastest(rehearsal ? *rehearsal : call, from, stream);
  } catch (const std::bad_alloc&) {
    return from.front();  // the call itself may still fit
  }
}

ProductChoice ProductPlans::fastest(const ProductCall& call, const std::vector<ProductChoice>& from,
                                    const Stream& stream) const {
  std::vector<double> once;
  for (const ProductChoice& choice : from) {
    seconds(call, choice, /*repeats=*/1, stream);  // loads the code
    const double alone = seconds(call, choice, /*repeats=*/1, stream);
    once.push_back(seconds(call, choice, repeats_for(alone), stream));
  }
  const double best_once = *std::min_element(once.begin(), once.end());
  if (best_once == std::numeric_limits<double>::infinity())
    check(CUBLAS_STATUS_NOT_SUPPORTED, "cublasLtMatmul");
  const int repeats = repeats_for(best_once);
  std::size_t best = 0;
  double best_time = std::numeric_limits<double>::infinity();
  for (std::size_t i = 0; i < from.size(); ++i) {
    if (!(once[i] <= kHopeless * best_once))
      continue;
    std::array<double, kTrials> times{};
    for (double& time : times) time = seconds(call, from[i], repeats, stream);
    std::nth_element(times.begin(), times.begin() + kTrials / 2, times.end());
    if (times[kTrials / 2] < best_time) {
      best = i;
      best_time = times[kTrials / 2];
    }
  }
  return from[best];
}

// Infinity if the library refuses.
double ProductPlans::seconds(const ProductCall& call, const ProductChoice& choice, int repeats,
                             const Stream& stream) const {
  const cublasLtEpilogue_t way = way_of(choice);
  const Product product = call.product(way);
  cuda::Mark begin;
  cuda::Mark end;
  begin.record(stream);
  for (int i = 0; i < repeats; ++i) {
    if (start(product, choice, stream) != CUBLAS_STATUS_SUCCESS) {
      cudaGetLastError();  // or the next launch would be taken to have failed
      return std::numeric_limits<double>::infinity();
    }
    call.finish(way);
  }
  end.record(stream);
  cuda::wait(end, stream);
  return end.seconds_since(begin) / repeats;
}

// An imported choice is checked before it is used for the first time.
bool ProductPlans::accepts(const ProductCall& call, const ProductChoice& choice) const {
  if (choice.verified)
    return true;
  const auto ways = call.ways();
  const cublasLtEpilogue_t way = way_of(choice);
  if (std::find(ways.begin(), ways.end(), way) == ways.end())
    return false;
  Description with(call.product(way));
  const cublasLtMatmulAlgo_t algorithm = algorithm_of(choice);
  cublasLtMatmulHeuristicResult_t result{};
  const cublasStatus_t status = cublasLtMatmulAlgoCheck(
      handle_.get(), &with.operation, &with.a, &with.b, &with.d, &with.d, &algorithm, &result);
  return status == CUBLAS_STATUS_SUCCESS && result.state == CUBLAS_STATUS_SUCCESS &&
         result.workspaceSize <= static_cast<std::size_t>(kWorkspaceBytes);
}

cublasStatus_t ProductPlans::start(const Product& product, const ProductChoice& choice,
                                   const Stream& stream) const {
  Description with(product);
  const cublasLtMatmulAlgo_t algorithm = algorithm_of(choice);
  const bool is_double = product.compute == CUBLAS_COMPUTE_64F;
  const double one = 1;
  const double sum = product.accumulate ? 1 : 0;
  const float one_float = 1;
  const auto sum_float = static_cast<float>(sum);
  const void* alpha = is_double ? static_cast<const void*>(&one) : &one_float;
  const void* beta = is_double ? static_cast<const void*>(&sum) : &sum_float;
  return cublasLtMatmul(handle_.get(), &with.operation, alpha, product.a, &with.a, product.b,
                        &with.b, beta, product.d, &with.d, product.d, &with.d, &algorithm,
                        workspace_, static_cast<std::size_t>(kWorkspaceBytes),
                        cuda::native(stream));
}

}  // namespace hew::kernels
