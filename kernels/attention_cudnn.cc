#include "kernels/attention_cudnn.h"

// NOLINT(readability-identifier-naming)
#include <cudnn.h>
#include <cudnn_frontend.h>

#include <array>
#include <compare>
#include <map>
#include <memory>
#include <unordered_map>
#include <utility>

#include "core/cuda_check.h"
#include "kernels/attention_settings.h"

namespace hew::kernels {
namespace {

namespace fe = cudnn_frontend;
using Attributes = fe::graph::Tensor_attributes;
using TensorPointer = std::shared_ptr<Attributes>;

void check(cudnnStatus_t status, std::string_view api,
           std::source_location where = std::source_location::current()) {
  if (status != CUDNN_STATUS_SUCCESS)
    throw BackendError(api, static_cast<int>(status), cudnnGetErrorString(status), where);
}

struct CudnnTraits {
  using Value = cudnnHandle_t;
  static Value null() { return nullptr; }
  static void destroy(Value handle) noexcept { cudnnDestroy(handle); }
};

// What the tensors of a graph are called.
enum Name : std::int64_t { kQ = 1, kK, kV, kY, kLse, kDy, kDq, kDk, kDv };

// All that a plan depends on.
struct Problem {
  static Problem of(const ConstView& q, const ConstView& k, const AttentionOptions& options) {
    return {.batch = q.shape[0],
            .queries = q.shape[1],
            .keys = k.shape[1],
            .heads = q.shape[2],
            .key_heads = k.shape[2],
            .width = q.shape[3],
            .scale = options.scale,
            .causal = options.causal};
  }
  auto operator<=>(const Problem&) const = default;  // NOLINT(modernize-use-nullptr)

  std::int64_t batch = 0;
  std::int64_t queries = 0;
  std::int64_t keys = 0;
  std::int64_t heads = 0;
  std::int64_t key_heads = 0;
  std::int64_t width = 0;
  double scale = 0;
  bool causal = false;
  bool backward = false;
  bool deterministic = false;
};

// A graph that is ready to run, or why there is none.
struct Plan {
  fe::graph::Graph graph;
  std::int64_t workspace = 0;  // bytes
  std::string refusal;
};

// [B, T, heads, D] in memory, which cuDNN is told as [B, heads, T, D] with strides.
void describe_rows(Attributes& tensor, const Problem& p, std::int64_t rows, std::int64_t heads) {
  tensor.set_dim({p.batch, heads, rows, p.width})
      .set_stride({rows * heads * p.width, p.width, heads * p.width, 1})
      .set_data_type(fe::DataType_t::BFLOAT16);
}

// [B, H, Tq]
void describe_lse(Attributes& tensor, const Problem& p) {
  tensor.set_dim({p.batch, p.heads, p.queries, 1})
      .set_stride({p.heads * p.queries, p.queries, 1, 1})
      .set_data_type(fe::DataType_t::FLOAT);
}

TensorPointer input(fe::graph::Graph& graph, const Problem& p, Name name, std::int64_t rows,
                    std::int64_t heads) {
  Attributes tensor;
  tensor.set_uid(name);
  describe_rows(tensor, p, rows, heads);
  return graph.tensor(tensor);
}

void output(const TensorPointer& tensor, const Problem& p, Name name, std::int64_t rows,
            std::int64_t heads) {
  tensor->set_output(true).set_uid(name);
  describe_rows(*tensor, p, rows, heads);
}

template <class Options>
void set_mask_and_scale(Options& options, const Problem& p) {
  options.set_attn_scale(static_cast<float>(p.scale));
  if (!p.causal)
    return;
  // The same where there are as many queries as keys; cuDNN has more plans for the first.
  options
      .set_diagonal_alignment(p.queries == p.keys ? fe::DiagonalAlignment_t::TOP_LEFT
                                                  : fe::DiagonalAlignment_t::BOTTOM_RIGHT)
      .set_diagonal_band_right_bound(0);
}

void describe_forward(fe::graph::Graph& graph, const Problem& p) {
  const TensorPointer q = input(graph, p, kQ, p.queries, p.heads);
  const TensorPointer k = input(graph, p, kK, p.keys, p.key_heads);
  const TensorPointer v = input(graph, p, kV, p.keys, p.key_heads);
  auto options = fe::graph::SDPA_attributes().set_name("attention").set_generate_stats(true);
  set_mask_and_scale(options, p);
  const auto [y, lse] = graph.sdpa(q, k, v, std::move(options));
  output(y, p, kY, p.queries, p.heads);
  lse->set_output(true).set_uid(kLse);
  describe_lse(*lse, p);
}

void describe_backward(fe::graph::Graph& graph, const Problem& p) {
  const TensorPointer q = input(graph, p, kQ, p.queries, p.heads);
  const TensorPointer k = input(graph, p, kK, p.keys, p.key_heads);
  const TensorPointer v = input(graph, p, kV, p.keys, p.key_heads);
  const TensorPointer y = input(graph, p, kY, p.queries, p.heads);
  const TensorPointer dy = input(graph, p, kDy, p.queries, p.heads);
  Attributes statistics;
  statistics.set_uid(kLse);
  describe_lse(statistics, p);
  const TensorPointer lse = graph.tensor(statistics);
  auto options = fe::graph::SDPA_backward_attributes().set_name("attention_backward");
  options.set_deterministic_algorithm(p.deterministic);
  set_mask_and_scale(options, p);
  const auto [dq, dk, dv] = graph.sdpa_backward(q, k, v, y, dy, lse, std::move(options));
  output(dq, p, kDq, p.queries, p.heads);
  output(dk, p, kDk, p.keys, p.key_heads);
  output(dv, p, kDv, p.keys, p.key_heads);
}

// Why the graph cannot be made into a plan; empty if it can.
std::string build(fe::graph::Graph& graph, cudnnHandle_t handle) {
  try {
    fe::error_t status = graph.validate();
    if (status.is_good())
      status = graph.build_operation_graph(handle);
    if (status.is_good())
      status = graph.create_execution_plans({fe::HeurMode_t::A});
    if (status.is_good())
      status = graph.check_support();
    if (status.is_good())
      status = graph.build_plans();
    if (status.is_good())
      return {};
    return status.get_message().empty() ? "cuDNN gave no reason" : status.get_message();
  } catch (const fe::cudnnException& error) {  // thrown by its older parts
    return error.what();
  }
}

// Plans of one stream, made when first asked for.
class CudnnAttention {
 public:
  explicit CudnnAttention(const Stream& stream) {
    const cuda::CurrentDevice current(stream.device.index);
    cudnnHandle_t handle = nullptr;
    check(cudnnCreate(&handle), "cudnnCreate");
    handle_ = UniqueHandle<CudnnTraits>(handle);
    check(cudnnSetStream(handle, cuda::native(stream)), "cudnnSetStream");
  }

  cudnnHandle_t handle() const { return handle_.get(); }

  Plan& plan(const Problem& problem) {
    std::unique_ptr<Plan>& slot = plans_[problem];
    if (slot == nullptr)
      slot = make(problem);
    return *slot;
  }

 private:
  std::unique_ptr<Plan> make(const Problem& problem) const {
    auto plan = std::make_unique<Plan>();
    plan->graph.set_io_data_type(fe::DataType_t::BFLOAT16)
        .set_intermediate_data_type(fe::DataType_t::FLOAT)
        .set_compute_data_type(fe::DataType_t::FLOAT);
    if (problem.backward) {
      describe_backward(plan->graph, problem);
    } else {
      describe_forward(plan->graph, problem);
    }
    plan->refusal = build(plan->graph, handle_.get());
    if (!plan->refusal.empty())
      return plan;
    fe::error_t status = plan->graph.get_workspace_size(plan->workspace);
    if (status.is_bad())
      throw BackendError("cudnn get_workspace_size", static_cast<int>(status.get_code()),
                         status.get_message());
    return plan;
  }

  UniqueHandle<CudnnTraits> handle_;  // outlives the plans
  std::map<Problem, std::unique_ptr<Plan>> plans_;
};

using Pointers = std::unordered_map<std::int64_t, void*>;

// cuDNN's pointers are all mutable; it does not write to inputs.
void* pointer(const ConstView& view) {
  return const_cast<void*>(view.data);
}

// Why cuDNN is not even asked; empty if it is.
std::string outside(const Problem& p, const Pointers& pointers) {
  constexpr std::int64_t kMaxWidth = 128;
  constexpr std::uintptr_t kAlignment = 16;
  if (p.batch == 0 || p.queries == 0)
    return "nothing to do";
  if (p.queries == 1)
    return "one query";  // generation: a plan for each number of keys would cost more than it saves
  if (p.width % 8 != 0 || p.width > kMaxWidth)
    return fmt::format("heads are {} wide, not a multiple of 8 up to {}", p.width, kMaxWidth);
  for (const auto& [name, data] : pointers) {
    if (name != kLse && reinterpret_cast<std::uintptr_t>(data) % kAlignment != 0)
      return fmt::format("a tensor is not aligned to {} bytes", kAlignment);
  }
  return {};
}

bool run(const Problem& problem, Pointers& pointers, const Stream& stream) {
  std::string& refusal = stream.state->get<AttentionSettings>(stream).refusal;
  refusal = outside(problem, pointers);
  if (!refusal.empty())
    return false;
  auto& cudnn = stream.state->get<CudnnAttention>(stream);
  Plan& plan = cudnn.plan(problem);
  refusal = plan.refusal;
  if (!refusal.empty())
    return false;
  Tensor workspace = Tensor::empty({plan.workspace}, DType::kUInt8, stream);
  fe::error_t status = plan.graph.execute(cudnn.handle(), pointers, workspace.view().data);
  if (status.is_bad())
    throw BackendError(problem.backward ? "cudnn attention_backward" : "cudnn attention",
                       static_cast<int>(status.get_code()), status.get_message());
  return true;
}

}  // namespace

bool cudnn_attention_forward(const AttentionForward& args, const Stream& stream) {
  Pointers pointers{{kQ, pointer(args.q)},
                    {kK, pointer(args.k)},
                    {kV, pointer(args.v)},
                    {kY, args.y.data},
                    {kLse, args.lse.data}};
  return run(Problem::of(args.q, args.k, args.options), pointers, stream);
}

bool cudnn_attention_backward(const AttentionBackward& args, const Stream& stream) {
  Problem problem = Problem::of(args.q, args.k, args.options);
  problem.backward = true;
  problem.deterministic = stream.state->get<AttentionSettings>(stream).deterministic;
  Pointers pointers{{kQ, pointer(args.q)}, {kK, pointer(args.k)},     {kV, pointer(args.v)},
                    {kY, pointer(args.y)}, {kLse, pointer(args.lse)}, {kDy, pointer(args.dy)},
                    {kDq, args.dq.data},   {kDk, args.dk.data},       {kDv, args.dv.data}};
  return run(problem, pointers, stream);
}

bool has_cudnn_attention() {
  return true;
}

}  // namespace hew::kernels
