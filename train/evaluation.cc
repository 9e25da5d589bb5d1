#include "train/evaluation.h"

#include <cmath>
#include <numbers>

#include "kernels/elementwise.h"

namespace hew::train {
namespace {

// total[0] += Σ over the batch's tokens of their losses.
void add_losses(const layers::LanguageModel& model, const Batch& batch, std::optional<DType> dtype,
                Tensor& total) {
  const Stream& stream = total.stream();
  ag::ForwardContext context{.dtype = dtype};  // not training: no tape, no dropout
  const ag::Variable mean = model.loss(batch.inputs, batch.targets, /*scale=*/1, context);
  Tensor sum = Tensor::empty({1}, DType::kFloat64, stream);
  kernels::cast(mean.value().reshape({1}), sum, stream);
  kernels::scale(static_cast<double>(batch.inputs.numel()), sum, stream);
  kernels::add(total, sum, total, stream);
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

nlohmann::ordered_json numbers_of(const Evaluation& evaluation) {
  nlohmann::ordered_json numbers{{"loss", evaluation.loss},
                                 {"perplexity", evaluation.perplexity()},
                                 {"tokens", evaluation.tokens}};
  if (evaluation.bits_per_byte)
    numbers["bits_per_byte"] = *evaluation.bits_per_byte;
  return numbers;
}

Evaluation evaluate(const layers::LanguageModel& model,
                    const std::shared_ptr<const TokenCorpus>& corpus, const EvaluationSize& size,
                    dist::Communicator& comm, const Stream& stream) {
  const auto dataset = std::make_shared<const TokenDataset>(corpus, model.config().context);
  SequentialBatches batches(
      dataset, stream, size.batch, {.rank = comm.rank(), .world = comm.size()},
      size.max_windows > 0 ? std::optional<std::int64_t>(size.max_windows) : std::nullopt);
  Tensor total = Tensor::zeros({1}, DType::kFloat64, stream);
  for (std::int64_t round = 0; round < batches.rounds(); ++round) {
    if (size.before_batch)
      size.before_batch();
    if (const std::optional<Batch> batch = batches.next())
      add_losses(model, *batch, size.dtype, total);
  }
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
