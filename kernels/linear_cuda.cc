#include <array>
#include <type_traits>

#include "kernels/elementwise.h"
#include "kernels/linear.h"
#include "kernels/product_plans.h"

namespace hew::kernels {
namespace {

// cuBLASLt is column-major: what is [rows, cols] here is [cols, rows] there. Hence, in its terms,
//   y[N, M] ← op(w)[N, K]·x[K, M],  dx[K, M] ← w[K, N]·dy[N, M],  dw[K, N] ← x[K, M]·op(dy)[M, N]

using Ways = std::span<const cublasLtEpilogue_t>;
constexpr auto kPlain = CUBLASLT_EPILOGUE_DEFAULT;

template <class T>
constexpr cudaDataType_t kLibraryType = std::is_same_v<T, double>  ? CUDA_R_64F
                                        : std::is_same_v<T, float> ? CUDA_R_32F
                                                                   : CUDA_R_16BF;

template <class T>
cublasComputeType_t compute_type(bool tf32) {
  if (std::is_same_v<T, double>)
    return CUBLAS_COMPUTE_64F;
  return std::is_same_v<T, float> && tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
}

// Whether the library may apply the activation and keep, or read, its input. It has GPT-2's GELU
// alone, with a tanh that need not be better than the output types of tensor cores; and it reads
// and writes `pre` in pieces of 16 bytes and 8 elements.
template <class T>
bool library_activates(Activation activation, bool tf32, const ConstView& pre) {
  constexpr std::int64_t kRowStep = 8;
  constexpr std::int64_t kPreAlignment = 16;
  const bool rounds = std::is_same_v<T, BFloat16> || (std::is_same_v<T, float> && tf32);
  const bool reaches =
      !pre || (pre.shape[1] % kRowStep == 0 && alignment_of(pre.data) == kPreAlignment);
  return activation == Activation::kGeluTanh && rounds && reaches;
}

// Whether the library may read or write it in an epilogue: it takes vectors to be aligned, whatever
// their type, and faults where they are not.
bool library_reaches(const ConstView& vector) {
  constexpr std::int64_t kVectorAlignment = 16;
  return vector && alignment_of(vector.data) == kVectorAlignment;
}

const ProductSettings& settings_of(Cuda backend) {
  return backend.stream.state->get<ProductSettings>(backend.stream);
}

bool uses_tf32(Cuda backend) {
  return settings_of(backend).tf32;
}

template <class T>
class Forward final : public ProductCall {
 public:
  Forward(Cuda backend, const LinearForwardArgs& args)
      : backend_(backend), args_(args), tf32_(uses_tf32(backend)) {}

  Ways ways() const override {
    static constexpr std::array kBias{CUBLASLT_EPILOGUE_BIAS, kPlain};
    static constexpr std::array kGelu{CUBLASLT_EPILOGUE_GELU, kPlain};
    static constexpr std::array kGeluPre{CUBLASLT_EPILOGUE_GELU_AUX, kPlain};
    static constexpr std::array kGeluBias{CUBLASLT_EPILOGUE_GELU_BIAS, CUBLASLT_EPILOGUE_BIAS,
                                          kPlain};
    static constexpr std::array kGeluPreBias{CUBLASLT_EPILOGUE_GELU_AUX_BIAS,
                                             CUBLASLT_EPILOGUE_BIAS, kPlain};
    const bool biased = library_reaches(args_.bias);
    // In deterministic mode the bits do not depend on whether `pre` is kept, for which the library
    // has kernels of their own.
    if (!library_activates<T>(args_.activation, tf32_, args_.pre) || (args_.bias && !biased) ||
        settings_of(backend_).deterministic)
      return biased ? Ways(kBias) : Ways(kBias).last(1);
    if (args_.pre)
      return biased ? Ways(kGeluPreBias) : Ways(kGeluPre);
    return biased ? Ways(kGeluBias) : Ways(kGelu);
  }

  Product product(cublasLtEpilogue_t way) const override {
    return {.rows = args_.w.shape[0],
            .cols = args_.x.shape[0],
            .depth = args_.x.shape[1],
            .op_a = CUBLAS_OP_T,
            .in = kLibraryType<T>,
            .out = kLibraryType<T>,
            .compute = compute_type<T>(tf32_),
            .a = args_.w.data,
            .b = args_.x.data,
            .d = activates(way) ? args_.y.data : sums().data,
            .epilogue = way,
            .bias = adds_bias(way) ? const_cast<void*>(args_.bias.data) : nullptr,  // NOLINT
            .aux = keeps(way) ? args_.pre.data : nullptr};
  }

  void finish(cublasLtEpilogue_t way) const override {
    if (args_.bias && !adds_bias(way))
      add_broadcast<T>(backend_, sums(), args_.bias, sums());
    if (args_.activation != Activation::kNone && !activates(way))
      activation_forward<T>(backend_, args_.activation, sums(), args_.y);
  }

  std::unique_ptr<ProductCall> rehearsal() const override { return nullptr; }

  ProductKey key() const {
    return {.op = 0,
            .dtype = static_cast<std::int64_t>(args_.x.dtype),
            .tf32 = tf32_ ? 1 : 0,
            .activation = static_cast<std::int64_t>(args_.activation),
            .m = args_.x.shape[0],
            .n = args_.w.shape[0],
            .k = args_.x.shape[1],
            .align_a = alignment_of(args_.w.data),
            .align_b = alignment_of(args_.x.data),
            .align_out = alignment_of(args_.y.data),
            .align_bias = alignment_of(args_.bias.data),
            .align_pre = alignment_of(args_.pre.data)};
  }

 private:
  // The epilogues' own bits: BIAS is 4, GELU 32, AUX 128.
  static bool adds_bias(cublasLtEpilogue_t way) { return (way & CUBLASLT_EPILOGUE_BIAS) != 0; }
  static bool activates(cublasLtEpilogue_t way) { return (way & CUBLASLT_EPILOGUE_GELU) != 0; }
  static bool keeps(cublasLtEpilogue_t way) {
    constexpr auto kAux = CUBLASLT_EPILOGUE_GELU_AUX & ~CUBLASLT_EPILOGUE_GELU;
    return (way & kAux) != 0;
  }
  // Where x·wᵀ + bias goes when the activation comes after it.
  const View& sums() const {
    return args_.activation != Activation::kNone && args_.pre ? args_.pre : args_.y;
  }

  Cuda backend_;
  LinearForwardArgs args_;
  bool tf32_;
};

template <class T>
class InputGradient final : public ProductCall {
 public:
  InputGradient(Cuda backend, const LinearInputGradientArgs& args)
      : backend_(backend), args_(args), tf32_(uses_tf32(backend)) {}

  // The library's bias gradient has dx's type, which is not what bfloat16 sums are kept in.
  Ways ways() const override {
    static constexpr std::array kGelu{CUBLASLT_EPILOGUE_DGELU_BGRAD, CUBLASLT_EPILOGUE_DGELU,
                                      kPlain};
    // What is made again on the way costs our kernel one more store, and the library's a kernel. In
    // deterministic mode the bits do not depend on whether something is.
    if (!library_activates<T>(args_.activation, tf32_, args_.pre) || args_.activated ||
        settings_of(backend_).deterministic)
      return Ways(kGelu).last(1);
    const bool sums = library_reaches(args_.dbias) && !std::is_same_v<T, BFloat16>;
    return sums ? Ways(kGelu) : Ways(kGelu).last(2);
  }

  Product product(cublasLtEpilogue_t way) const override {
    return {.rows = args_.w.shape[1],
            .cols = args_.dy.shape[0],
            .depth = args_.dy.shape[1],
            .in = kLibraryType<T>,
            .out = kLibraryType<T>,
            .compute = compute_type<T>(tf32_),
            .a = args_.w.data,
            .b = args_.dy.data,
            .d = args_.dx.data,
            .accumulate = args_.accumulate,
            .epilogue = way,
            .bias = way == CUBLASLT_EPILOGUE_DGELU_BGRAD ? args_.dbias.data : nullptr,
            .aux = way == kPlain ? nullptr : const_cast<void*>(args_.pre.data)};  // NOLINT
  }

  void finish(cublasLtEpilogue_t way) const override {
    if (args_.activation != Activation::kNone && way == kPlain) {
      activation_backward<T>(backend_, {.activation = args_.activation,
                                        .x = args_.pre,
                                        .dy = args_.dx,
                                        .dx = args_.dx,
                                        .dbias = args_.dbias,
                                        .y = args_.activated});
    }
    if (args_.dbias && way == CUBLASLT_EPILOGUE_DGELU)
      sum_leading<T>(backend_, args_.dx, args_.dbias);
  }

  std::unique_ptr<ProductCall> rehearsal() const override {
    if (!args_.accumulate && !args_.activated)
      return nullptr;
    auto copy = std::make_unique<InputGradient>(backend_, args_);
    copy->args_.activated = {};  // may be what `pre` is
    if (!args_.accumulate)
      return copy;
    copy->scratch_ = Tensor::empty(args_.dx.shape, args_.dx.dtype, backend_.stream);
    copy->args_.dx = copy->scratch_;
    return copy;
  }

  ProductKey key() const {
    return {.op = 1,
            .dtype = static_cast<std::int64_t>(args_.dy.dtype),
            .tf32 = tf32_ ? 1 : 0,
            .activation = static_cast<std::int64_t>(args_.activation),
            .accumulate = args_.accumulate ? 1 : 0,
            .remake = args_.activated && !settings_of(backend_).deterministic ? 1 : 0,
            .m = args_.dy.shape[0],
            .n = args_.dy.shape[1],
            .k = args_.w.shape[1],
            .align_a = alignment_of(args_.w.data),
            .align_b = alignment_of(args_.dy.data),
            .align_out = alignment_of(args_.dx.data),
            .align_bias = alignment_of(args_.dbias.data),
            .align_pre = alignment_of(args_.pre.data)};
  }

 private:
  Cuda backend_;
  LinearInputGradientArgs args_;
  bool tf32_;
  Tensor scratch_;
};

template <class T>
class WeightGradient final : public ProductCall {
 public:
  WeightGradient(Cuda backend, const LinearWeightGradientArgs& args)
      : backend_(backend), args_(args), tf32_(uses_tf32(backend)), sums_(args.dbias) {
    if (args.accumulate && args.dbias) {
      fresh_ = Tensor::empty(args.dbias.shape, args.dbias.dtype, backend.stream);
      sums_ = fresh_;
    }
  }

  Ways ways() const override {
    static constexpr std::array kWays{CUBLASLT_EPILOGUE_BGRADB, kPlain};
    return library_reaches(sums_) ? Ways(kWays) : Ways(kWays).last(1);
  }

  Product product(cublasLtEpilogue_t way) const override {
    return {.rows = args_.x.shape[1],
            .cols = args_.dy.shape[1],
            .depth = args_.x.shape[0],
            .op_b = CUBLAS_OP_T,
            .in = kLibraryType<T>,
            .out = kLibraryType<Accumulator<T>>,
            .compute = compute_type<T>(tf32_),
            .a = args_.x.data,
            .b = args_.dy.data,
            .d = args_.dw.data,
            .accumulate = args_.accumulate,
            .epilogue = way,
            .bias = way == kPlain ? nullptr : sums_.data};
  }

  void finish(cublasLtEpilogue_t way) const override {
    if (!args_.dbias)
      return;
    if (way == kPlain)
      sum_leading<T>(backend_, args_.dy, sums_);
    if (args_.accumulate)
      add<Accumulator<T>>(backend_, args_.dbias, sums_, args_.dbias);
  }

  std::unique_ptr<ProductCall> rehearsal() const override {
    if (!args_.accumulate)
      return nullptr;
    auto copy = std::make_unique<WeightGradient>(backend_, args_);
    copy->scratch_ = Tensor::empty(args_.dw.shape, args_.dw.dtype, backend_.stream);
    copy->args_.dw = copy->scratch_;
    if (args_.dbias) {
      copy->scratch_bias_ = Tensor::empty(args_.dbias.shape, args_.dbias.dtype, backend_.stream);
      copy->args_.dbias = copy->scratch_bias_;
    }
    return copy;
  }

  ProductKey key() const {
    return {.op = 2,
            .dtype = static_cast<std::int64_t>(args_.dy.dtype),
            .tf32 = tf32_ ? 1 : 0,
            .accumulate = args_.accumulate ? 1 : 0,
            .m = args_.dy.shape[0],
            .n = args_.dy.shape[1],
            .k = args_.x.shape[1],
            .align_a = alignment_of(args_.x.data),
            .align_b = alignment_of(args_.dy.data),
            .align_out = alignment_of(args_.dw.data),
            .align_bias = alignment_of(args_.dbias.data)};
  }

 private:
  Cuda backend_;
  LinearWeightGradientArgs args_;
  bool tf32_;
  View sums_;  // Σ_m dy: dbias, or fresh_ where it is then added to dbias
  Tensor fresh_;
  Tensor scratch_;
  Tensor scratch_bias_;
};

template <class Call>
void carry_out(Cuda backend, const Call& call) {
  auto& plans = backend.stream.state->get<ProductPlans>(backend.stream);
  plans.run(call, call.key(), backend.stream);
}

}  // namespace

template <class T>
void linear_forward(Cuda backend, const LinearForwardArgs& args) {
  carry_out(backend, Forward<T>(backend, args));
}

template <class T>
void linear_input_gradient(Cuda backend, const LinearInputGradientArgs& args) {
  carry_out(backend, InputGradient<T>(backend, args));
}

template <class T>
void linear_weight_gradient(Cuda backend, const LinearWeightGradientArgs& args) {
  carry_out(backend, WeightGradient<T>(backend, args));
}

#define HEW_INSTANTIATE(T)                                                      \
  template void linear_forward<T>(Cuda, const LinearForwardArgs&);              \
  template void linear_input_gradient<T>(Cuda, const LinearInputGradientArgs&); \
  template void linear_weight_gradient<T>(Cuda, const LinearWeightGradientArgs&);
HEW_INSTANTIATE(float)
HEW_INSTANTIATE(double)
HEW_INSTANTIATE(BFloat16)
#undef HEW_INSTANTIATE

}  // namespace hew::kernels
