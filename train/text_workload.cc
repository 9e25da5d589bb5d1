#include "train/text_workload.h"

#include <optional>

#include "core/error.h"
#include "layers/language_model.h"
#include "train/model_setup.h"

namespace hew::train {
namespace {

TokenizerRecord tokenizer_of(const TokenCorpus& corpus) {
  const std::unique_ptr<Tokenizer> tokenizer = corpus.tokenizer();
  if (tokenizer == nullptr)
    return {};
  return {.kind = std::string(tokenizer->kind()),
          .blob = tokenizer->serialized(),
          .sha256 = tokenizer->sha256()};
}

}  // namespace

TextWorkload::TextWorkload(Recipe& recipe, dist::Communicator& comm, const Stream& stream)
    : comm_(comm),
      stream_(stream),
      batch_(recipe.train.batch),
      evaluation_{.batch = samples_at_a_time(recipe.train, comm.size()),
                  .max_windows = recipe.train.eval_batches * recipe.train.batch,
                  .dtype = activation_dtype(recipe.train.precision)},
      train_(open_corpus(recipe.data.train, recipe.model.vocab)) {
  recipe.model.vocab = resolve_vocab(recipe, train_->info());
  valid_ = open_corpus(recipe.data.valid, recipe.model.vocab);
  record_ = {.tokenizer = tokenizer_of(*train_), .digest = train_->digest()};
  if (valid_ && !record_.tokenizer.sha256.empty())
    valid_->require_tokenizer(record_.tokenizer.sha256);
  if (valid_)
    valid_->require_windows(recipe.model.context);  // or an evaluation would find out
  dataset_ = std::make_shared<const TokenDataset>(train_, recipe.model.context);
}

void TextWorkload::require_record(const DataRecord& saved) const {
  if (!saved.tokenizer.sha256.empty())
    train_->require_tokenizer(saved.tokenizer.sha256);
  require<DataError>(saved.digest.empty() || saved.digest == record_.digest,
                     "{}: its tokens are not those that the run was trained on", train_->path());
}

void TextWorkload::start(std::uint64_t seed, std::int64_t position) {
  loader_ = std::make_unique<BatchLoader>(
      BatchLoaderArgs{.dataset = dataset_,
                      .stream = stream_,
                      .seed = seed,
                      .global_batch = batch_,
                      .micro_batch = evaluation_.batch,
                      .ranks = {.rank = comm_.rank(), .world = comm_.size()},
                      .position = position});
}

std::vector<MicroBatch> TextWorkload::next(const layers::Model& model) {
  const layers::LanguageModel& language = layers::as_language_model(model);
  std::vector<MicroBatch> out;
  for (Batch& batch : loader_->next()) {
    const std::int64_t first = batch.first_sample;
    out.push_back(
        {.first_sample = first,
         .loss = [&language, batch = std::move(batch)](double scale, ag::ForwardContext& context) {
           return language.loss(batch.inputs, batch.targets, scale, context);
         }});
  }
  return out;
}

EvaluationReport TextWorkload::evaluate(const layers::Model& model,
                                        const std::function<void()>& before_batch) const {
  EvaluationSize size = evaluation_;
  size.before_batch = before_batch;
  const Evaluation result =
      train::evaluate(layers::as_language_model(model), valid_, size, comm_, stream_);
  return {.text = to_string(result), .numbers = numbers_of(result)};
}

std::shared_ptr<const TokenCorpus> open_corpus(const std::vector<std::string>& patterns,
                                               std::int64_t vocab) {
  if (patterns.empty())
    return nullptr;
  return std::make_shared<const TokenCorpus>(
      TokenCorpus::open(patterns, vocab > 0 ? std::optional<std::int64_t>(vocab) : std::nullopt));
}

std::int64_t resolve_vocab(const Recipe& recipe, const CorpusInfo& corpus) {
  const std::int64_t known = corpus.vocab_size.value_or(0);
  const std::int64_t wanted = recipe.model.vocab;
  require<ConfigError>(wanted > 0 || known > 0,
                       "model.vocab: the corpus does not know its vocabulary; give the number");
  require<ConfigError>(wanted == 0 || wanted >= known,
                       "model.vocab: {} is below the corpus's vocabulary of {}", wanted, known);
  return wanted > 0 ? wanted : known;
}

}  // namespace hew::train
