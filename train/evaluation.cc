#include "train/evaluation.h"

#include <cmath>
#include <numbers>

#include "core/error.h"
#include "kernels/cross_entropy.h"

namespace hew::train {
namespace {

double sum_of(const Tensor& losses) {
  double sum = 0;
  if (losses.dtype() == DType::kFloat64) {
    for (const double x : losses.to_vector<double>()) sum += x;
  } else {
    for (const float x : losses.to_vector<float>()) sum += static_cast<double>(x);
  }
  return sum;
}

double batch_loss(const layers::LanguageModel& model, const Batch& batch, const Stream& stream) {
  ag::ForwardContext context;  // not training: no tape, no dropout
  const ag::Variable logits = model.forward(batch.inputs, context);
  const std::int64_t tokens = batch.inputs.numel();
  Tensor losses = Tensor::empty({tokens}, logits.dtype(), stream);
  Tensor lse = Tensor::empty({tokens}, logits.dtype(), stream);
  kernels::token_losses({.logits = logits.value(),
                         .targets = batch.targets.reshape({tokens}),
                         .losses = losses,
                         .lse = lse},
                        stream);
  return sum_of(losses);
}

}  // namespace

double Evaluation::perplexity() const {
  return std::exp(loss);
}

std::string to_string(const Evaluation& evaluation) {
  std::string text = fmt::format("loss {:.4f} nats/token  perplexity {:.3f}", evaluation.loss,
                                 evaluation.perplexity());
  if (evaluation.bits_per_byte) {
    text += fmt::format("  {:.4f} bits/byte", *evaluation.bits_per_byte);
  }
  return text + fmt::format("  ({} tokens)", evaluation.tokens);
}

Evaluation evaluate(const layers::LanguageModel& model,
                    const std::shared_ptr<const TokenCorpus>& corpus, const EvaluationSize& size,
                    dist::Communicator& comm, const Stream& stream) {
  const auto dataset = std::make_shared<const TokenDataset>(corpus, model.config().context);
  SequentialBatches batches(
      dataset, stream, size.batch, {.rank = comm.rank(), .world = comm.size()},
      size.max_windows > 0 ? std::optional<std::int64_t>(size.max_windows) : std::nullopt);
  double sum = 0;
  while (const std::optional<Batch> batch = batches.next())
    sum += batch_loss(model, *batch, stream);
  Tensor total = Tensor::from(std::vector<double>{sum}, {1}, stream);
  comm.all_reduce_sum(total, stream);
  Evaluation result;
  result.tokens = batches.total_tokens();
  result.loss = total.to_vector<double>().front() / static_cast<double>(result.tokens);
  if (corpus->info().bytes) {
    const auto tokens_per_byte =
        static_cast<double>(corpus->size()) / static_cast<double>(*corpus->info().bytes);
    result.bits_per_byte = result.loss / std::numbers::ln2 * tokens_per_byte;
  }
  return result;
}

}  // namespace hew::train
