#include "train/sequence_scores.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/error.h"
#include "kernels/cross_entropy.h"

namespace hew::train {
namespace {

// Lengths are rounded up to a multiple of this: a GPU prepares its products for every new shape.
constexpr std::int64_t kLengthStep = 16;

// Sequences that are computed together.
struct Group {
  std::vector<std::size_t> members;
  std::int64_t length = 0;  // of the inputs, padded
};

std::int64_t inputs_of(const ScoredTokens& sequence) {
  return std::ssize(sequence.tokens) - 1;
}

void check(const ScoredTokens& sequence, std::int64_t context) {
  const std::int64_t inputs = inputs_of(sequence);
  require<ShapeError>(sequence.scored >= 1 && sequence.scored <= inputs && inputs <= context,
                      "[score_sequences] {} of {} tokens are to be predicted, expected at least 1, "
                      "one in front of them, and at most {} in all",
                      sequence.scored, sequence.tokens.size(), context + 1);
}

// The longest first, so that memory that does not suffice shows at once.
std::vector<Group> grouped(const std::vector<ScoredTokens>& sequences, std::int64_t context,
                           std::int64_t batch) {
  std::vector<std::size_t> order(sequences.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, [&](std::size_t a, std::size_t b) {
    return inputs_of(sequences[a]) > inputs_of(sequences[b]);
  });
  std::vector<Group> groups;
  std::int64_t room = 0;
  for (const std::size_t i : order) {
    if (room == 0) {
      const std::int64_t steps = (inputs_of(sequences[i]) + kLengthStep - 1) / kLengthStep;
      groups.push_back({.members = {}, .length = std::min(steps * kLengthStep, context)});
      room = std::max<std::int64_t>(1, batch * context / groups.back().length);
    }
    groups.back().members.push_back(i);
    --room;
  }
  return groups;
}

// Whether logits [scored, V] are largest at `targets`.
template <class T>
bool is_greedy(const Tensor& logits, std::span<const std::int32_t> targets) {
  const std::vector<T> values = logits.to_vector<T>();
  auto row = values.begin();
  for (const std::int32_t target : targets) {
    const auto end = row + logits.size(1);
    if (std::max_element(row, end) - row != target)
      return false;
    row = end;
  }
  return true;
}

/// Scores one group after another.
class Scorer {
 public:
  Scorer(const layers::LanguageModel& model, const std::vector<ScoredTokens>& sequences,
         bool greedy, const Stream& stream)
      : model_(model), sequences_(sequences), greedy_(greedy), stream_(stream) {}

  // scores[2 i] += log probability, scores[2 i + 1] += 1 if greedy, for the members i.
  void score(const Group& group, std::vector<double>& scores) const {
    ag::ForwardContext context;
    const Tensor targets = targets_of(group);
    const Tensor logits = model_.forward(inputs_tensor(group), context).value();  // [B·T, V]
    const std::vector<double> losses = losses_of(logits, targets);
    for (std::size_t row = 0; row < group.members.size(); ++row) {
      const std::size_t i = group.members[row];
      const ScoredTokens& sequence = sequences_[i];
      const std::int64_t end = static_cast<std::int64_t>(row) * group.length + inputs_of(sequence);
      const std::int64_t begin = end - sequence.scored;
      scores[2 * i] -= std::accumulate(losses.begin() + begin, losses.begin() + end, 0.0);
      if (greedy_ && has_largest(logits.rows(begin, sequence.scored), sequence))
        scores[2 * i + 1] += 1;
    }
  }

 private:
  Tensor inputs_tensor(const Group& group) const {
    std::vector<std::int32_t> ids(static_cast<std::size_t>(rows_of(group) * group.length), 0);
    auto row = ids.begin();
    for (const std::size_t i : group.members) {
      std::copy(sequences_[i].tokens.begin(), sequences_[i].tokens.end() - 1, row);
      row += group.length;
    }
    return Tensor::from(ids, {rows_of(group), group.length}, stream_);
  }

  Tensor targets_of(const Group& group) const {
    std::vector<std::int32_t> targets(static_cast<std::size_t>(rows_of(group) * group.length),
                                      kernels::kIgnoredTarget);
    auto row = targets.begin();
    for (const std::size_t i : group.members) {
      const ScoredTokens& sequence = sequences_[i];
      std::copy(sequence.tokens.end() - sequence.scored, sequence.tokens.end(),
                row + (inputs_of(sequence) - sequence.scored));
      row += group.length;
    }
    return Tensor::from(targets, {rows_of(group) * group.length}, stream_);
  }

  std::vector<double> losses_of(const Tensor& logits, const Tensor& targets) const {
    const DType sums = accumulator_of(logits.dtype());
    Tensor losses = Tensor::empty(targets.shape(), sums, stream_);
    Tensor lse = Tensor::empty(targets.shape(), sums, stream_);
    kernels::token_losses({.logits = logits, .targets = targets, .losses = losses, .lse = lse},
                          stream_);
    if (sums == DType::kFloat64)
      return losses.to_vector<double>();
    const std::vector<float> values = losses.to_vector<float>();
    return {values.begin(), values.end()};
  }

  static bool has_largest(const Tensor& logits, const ScoredTokens& sequence) {
    const auto targets = std::span(sequence.tokens).last(static_cast<std::size_t>(sequence.scored));
    return logits.dtype() == DType::kFloat64 ? is_greedy<double>(logits, targets)
                                             : is_greedy<float>(logits, targets);
  }

  static std::int64_t rows_of(const Group& group) { return std::ssize(group.members); }

  const layers::LanguageModel& model_;
  const std::vector<ScoredTokens>& sequences_;
  bool greedy_;
  const Stream& stream_;
};

}  // namespace

std::vector<SequenceScore> score_sequences(const layers::LanguageModel& model,
                                           const std::vector<ScoredTokens>& sequences,
                                           const ScoringOptions& options, dist::Communicator& comm,
                                           const Stream& stream) {
  const std::int64_t context = model.config().context;
  for (const ScoredTokens& sequence : sequences) check(sequence, context);
  const std::vector<Group> groups = grouped(sequences, context, options.batch);
  const Scorer scorer(model, sequences, options.greedy, stream);
  std::vector<double> scores(2 * sequences.size(), 0);
  for (auto g = static_cast<std::size_t>(comm.rank()); g < groups.size();
       g += static_cast<std::size_t>(comm.size())) {
    scorer.score(groups[g], scores);
  }
  Tensor all = Tensor::from(scores, {std::ssize(scores)}, stream);
  comm.all_reduce_sum(all, stream);
  scores = all.to_vector<double>();
  std::vector<SequenceScore> out;
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    require<Error>(std::isfinite(scores[2 * i]),
                   "[score_sequences] the model gives log probabilities that are not finite");
    out.push_back({.log_probability = scores[2 * i], .greedy = scores[2 * i + 1] > 0});
  }
  return out;
}

std::vector<ScoredTokens> rolling_windows(std::span<const std::int32_t> tokens, std::int32_t prefix,
                                          std::int64_t context) {
  std::vector<std::int32_t> all{prefix};
  all.insert(all.end(), tokens.begin(), tokens.end());
  std::vector<ScoredTokens> windows;
  const std::int64_t count = std::ssize(tokens);
  for (std::int64_t done = 0; done < count;) {
    const std::int64_t scored = std::min(context, count - done);
    done += scored;
    const std::int64_t begin = std::max<std::int64_t>(0, done - context);
    windows.push_back({.tokens = {all.begin() + begin, all.begin() + done + 1}, .scored = scored});
  }
  return windows;
}

}  // namespace hew::train
