#include "train/image_evaluation.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <span>

#include "core/error.h"
#include "kernels/elementwise.h"

namespace hew::train {
namespace {

constexpr std::int64_t kTop = 5;

// Sums over images, as one array that ranks add up.
class Counts {
 public:
  Counts(std::int64_t classes, bool confusion)
      : classes_(classes),
        confusion_(confusion),
        sums_(kConfusion + (confusion ? static_cast<std::size_t>(classes * classes) : 0), 0.0) {}

  void add(std::span<const double> logits, std::int32_t label) {
    const double own = logits[static_cast<std::size_t>(label)];
    std::int64_t before = 0;  // classes that come before the image's
    std::int64_t best = 0;
    bool finite = true;
    double largest = -std::numeric_limits<double>::infinity();
    for (std::int64_t c = 0; c < classes_; ++c) {
      const double z = logits[static_cast<std::size_t>(c)];
      finite = finite && std::isfinite(z);
      if (z > largest) {
        largest = z;
        best = c;
      }
      before += z > own || (z == own && c < label) ? 1 : 0;
    }
    double sum = 0;
    for (const double z : logits) sum += std::exp(z - largest);
    sums_[kLoss] += finite ? largest + std::log(sum) - own : std::nan("");
    sums_[kTop1] += finite && before == 0 ? 1 : 0;
    sums_[kTop5] += finite && before < kTop ? 1 : 0;
    if (confusion_)
      sums_[kConfusion + static_cast<std::size_t>(label * classes_ + best)] += 1;
  }

  ImageEvaluation result(std::int64_t images, dist::Communicator& comm,
                         const Stream& stream) const {
    Tensor all = Tensor::from(sums_, {std::ssize(sums_)}, stream);
    comm.all_reduce_sum(all, stream);
    const std::vector<double> total = all.to_vector<double>();
    const auto count = static_cast<double>(images);
    ImageEvaluation out{.images = images,
                        .loss = total[kLoss] / count,
                        .top1 = total[kTop1] / count,
                        .top5 = total[kTop5] / count,
                        .confusion = {}};
    for (std::size_t i = kConfusion; i < total.size(); ++i)
      out.confusion.push_back(std::llround(total[i]));
    return out;
  }

 private:
  enum Place : std::size_t { kLoss, kTop1, kTop5, kConfusion };

  std::int64_t classes_;
  bool confusion_;
  std::vector<double> sums_;
};

std::vector<double> on_host(const Tensor& logits) {
  Tensor wide = Tensor::empty(logits.shape(), DType::kFloat64, logits.stream());
  kernels::cast(logits, wide, logits.stream());
  return wide.to_vector<double>();
}

ClassAccuracy accuracy_of(const ImageEvaluation& evaluation, std::int64_t label) {
  const std::int64_t classes = evaluation.classes();
  const std::span<const std::int64_t> row =
      std::span(evaluation.confusion)
          .subspan(static_cast<std::size_t>(label * classes), static_cast<std::size_t>(classes));
  ClassAccuracy out{
      .label = label, .images = std::reduce(row.begin(), row.end()), .accuracy = 0, .mistakes = {}};
  const auto images = static_cast<double>(out.images);
  for (std::int64_t c = 0; c < classes; ++c) {
    const std::int64_t count = row[static_cast<std::size_t>(c)];
    const double share = static_cast<double>(count) / images;
    if (c == label)
      out.accuracy = share;
    else if (count > 0)
      out.mistakes.push_back({.label = c, .share = share});
  }
  constexpr std::size_t kMistakes = 3;
  std::ranges::stable_sort(out.mistakes, std::ranges::greater{}, &ClassAccuracy::Mistake::share);
  out.mistakes.resize(std::min(kMistakes, out.mistakes.size()));
  return out;
}

}  // namespace

std::int64_t ImageEvaluation::classes() const {
  return std::llround(std::sqrt(static_cast<double>(confusion.size())));
}

std::string to_string(const ImageEvaluation& evaluation) {
  return fmt::format("loss {:.4f} nats/image  top-1 {:.2f} %  top-5 {:.2f} %  ({} images)",
                     evaluation.loss, 100 * evaluation.top1, 100 * evaluation.top5,
                     evaluation.images);
}

nlohmann::ordered_json numbers_of(const ImageEvaluation& evaluation) {
  return {{"loss", evaluation.loss},
          {"top1", evaluation.top1},
          {"top5", evaluation.top5},
          {"images", evaluation.images}};
}

std::vector<ClassAccuracy> worst_classes(const ImageEvaluation& evaluation, std::int64_t count) {
  std::vector<ClassAccuracy> all;
  for (std::int64_t label = 0; label < evaluation.classes(); ++label) {
    ClassAccuracy one = accuracy_of(evaluation, label);
    if (one.images > 0)
      all.push_back(std::move(one));
  }
  std::ranges::stable_sort(all, {}, &ClassAccuracy::accuracy);
  all.resize(std::min(all.size(), static_cast<std::size_t>(count)));
  return all;
}

ImageEvaluation evaluate_images(const layers::VisionTransformer& model,
                                const ImageEvaluationArgs& args, dist::Communicator& comm,
                                const Stream& stream) {
  const std::int64_t classes = model.config().classes;
  const auto known = std::ssize(args.images->classes());
  require<DataError>(known <= classes, "{}: images of {} classes, the model knows {}",
                     args.images->path(), known, classes);
  SequentialImages batches({.images = args.images,
                            .transform = args.transform,
                            .stream = stream,
                            .micro_batch = args.batch,
                            .ranks = {.rank = comm.rank(), .world = comm.size()},
                            .max_images = args.max_images > 0
                                              ? std::optional<std::int64_t>(args.max_images)
                                              : std::nullopt});
  Counts counts(classes, args.confusion);
  for (std::int64_t round = 0; round < batches.rounds(); ++round) {
    if (args.before_batch)
      args.before_batch();
    const std::optional<LabelledImages> batch = batches.next();
    if (!batch)
      continue;
    ag::ForwardContext context{.dtype = args.dtype};  // not training: no tape, nothing dropped
    const std::vector<double> logits = on_host(model.forward(batch->images, context).value());
    const std::vector<std::int32_t> labels = batch->labels.to_vector<std::int32_t>();
    for (std::size_t i = 0; i < labels.size(); ++i) {
      const auto width = static_cast<std::size_t>(classes);
      counts.add(std::span(logits).subspan(i * width, width), labels[i]);
    }
  }
  return counts.result(batches.total(), comm, stream);
}

}  // namespace hew::train
