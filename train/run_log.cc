#include "train/run_log.h"

#include <algorithm>

namespace hew::train {

std::optional<std::int64_t> end_of_evaluation(const std::filesystem::path& metrics,
                                              std::int64_t steps, std::int64_t bytes) {
  const std::string begin = fmt::format(R"({{"kind":"eval","step":{},)", steps);
  std::ifstream in(metrics);
  std::int64_t at = 0;
  // A line without an end was broken off.
  for (std::string line; at <= bytes && std::getline(in, line) && !in.eof();) {
    at += std::ssize(line) + 1;
    if (line.starts_with(begin))
      return at;
  }
  return std::nullopt;
}

RunLog::RunLog(const RunDirectory& directory, std::int64_t metrics_bytes)
    : console_(directory.log()),
      metrics_(std::make_unique<MetricsFile>(directory.metrics(), metrics_bytes)) {}

void RunLog::begin(std::int64_t steps) {
  since_ = Clock::now();
  since_step_ = steps;
}

void RunLog::step(const StepRecord& record, bool milestone) {
  if (!metrics_)
    return;
  const Recipe& recipe = record.recipe;
  const Progress& progress = record.progress;
  const double elapsed = std::chrono::duration<double>(Clock::now() - since_).count();
  const auto steps = static_cast<double>(std::max<std::int64_t>(progress.steps - since_step_, 1));
  const double per_step = elapsed / steps;
  const StepWork work = step_work(recipe);
  const ProgressLine line{
      .step = progress.steps,
      .steps = recipe.train.steps,
      .loss = record.outcome.loss,
      .rate = static_cast<double>(work.amount) / per_step,
      .unit = work.unit,
      .learning_rate = record.outcome.learning_rate,
      .sparsity = record.sparsity,
      .seconds_left = per_step * static_cast<double>(recipe.train.steps - progress.steps)};
  console_.progress(line, milestone);
  if (!milestone)
    return;
  metrics_->write({{"kind", "train"},
                   {"step", progress.steps},
                   {"loss", record.outcome.loss},
                   {"lr", record.outcome.learning_rate},
                   {"grad_norm", record.outcome.gradient_norm},
                   {"sparsity", line.sparsity},
                   {fmt::format("{}_per_second", work.unit), line.rate},
                   {"step_seconds", per_step},
                   {"bytes_reduced", record.bytes_reduced},
                   {"optimizer_bytes", record.optimizer_bytes},
                   {"flops", progress.flops}});
  begin(progress.steps);
}

void RunLog::refresh(const sparsity::Sparsifier& sparsifier, const RefreshRecord& record) {
  if (!metrics_)
    return;
  nlohmann::ordered_json weights = nlohmann::ordered_json::object();
  for (const sparsity::Sparsifier::Target& target : sparsifier.targets()) {
    const sparsity::BsrPattern& pattern = *target.weight->pattern();
    weights[target.weight->name()] = {{"live", pattern.nnzb()},
                                      {"blocks", pattern.grid().blocks()},
                                      {"sparsity", pattern.sparsity()},
                                      {"wanted", sparsifier.wanted_sparsity(target, record.step)}};
  }
  metrics_->write({{"kind", "refresh"},
                   {"step", record.step + 1},
                   {"seconds", record.seconds},
                   {"weights", weights}});
}

void RunLog::evaluation(const EvaluationReport& report, std::int64_t steps) {
  if (!metrics_)
    return;
  console_.say("validation  " + report.text);
  nlohmann::ordered_json record{{"kind", "eval"}, {"step", steps}};
  record.update(report.numbers);
  metrics_->write(record);
}

}  // namespace hew::train
