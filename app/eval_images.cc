#include "app/eval_images.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "core/error.h"
#include "io/safetensors.h"
#include "layers/vision_transformer.h"
#include "train/image_evaluation.h"
#include "train/json_line.h"

namespace hew {
namespace {

constexpr std::int64_t kWorst = 5;  // classes that are shown

std::shared_ptr<const ImageSet> open_images(const train::TrainedModel& trained,
                                            const ImageEvalOptions& options) {
  const std::vector<std::string>& patterns =
      options.data.empty() ? trained.recipe.data.valid : options.data;
  require<ConfigError>(!patterns.empty(), "{}: its recipe names no data.valid; give --data IMAGES",
                       trained.file);
  std::shared_ptr<const ImageSet> images = open_image_set(patterns);
  require<DataError>(trained.data.classes.empty() || images->classes() == trained.data.classes,
                     "{}: its classes are not those that {} was trained on", images->path(),
                     trained.file);
  return images;
}

std::string text_of(const train::ClassAccuracy& one, const std::vector<std::string>& names) {
  std::string text = fmt::format("{:6.2f} %  {}", 100 * one.accuracy, class_name(names, one.label));
  for (const auto& mistake : one.mistakes) {
    text += fmt::format("{} {} {:.1f} %", &mistake == &one.mistakes.front() ? "  taken for" : ",",
                        class_name(names, mistake.label), 100 * mistake.share);
  }
  return text;
}

nlohmann::ordered_json json_of(const train::ClassAccuracy& one,
                               const std::vector<std::string>& names) {
  nlohmann::ordered_json mistakes = nlohmann::ordered_json::object();
  for (const auto& mistake : one.mistakes)
    mistakes[class_name(names, mistake.label)] = mistake.share;
  return {{"class", class_name(names, one.label)},
          {"images", one.images},
          {"accuracy", one.accuracy},
          {"taken_for", mistakes}};
}

// The first images as the model reads them, and their logits: what an exported model is compared
// with.
void dump_logits(const std::string& path, const layers::VisionTransformer& model,
                 const train::ImageEvaluationArgs& args, const Stream& stream) {
  SequentialImages batches({.images = args.images,
                            .transform = args.transform,
                            .stream = stream,
                            .micro_batch = args.batch});
  const LabelledImages batch = *batches.next();
  ag::ForwardContext context;
  const Tensor logits = model.forward(batch.images, context).value();
  const std::vector<TensorSpec> tensors{
      {.name = "images", .dtype = batch.images.dtype(), .shape = batch.images.shape()},
      {.name = "logits", .dtype = logits.dtype(), .shape = logits.shape()}};
  SafetensorsWriter writer(path, tensors, {});
  writer.write("images", batch.images);
  writer.write("logits", logits);
  writer.commit();
}

}  // namespace

std::string report_images(const train::TrainedModel& trained, const ImageEvalOptions& options,
                          const RankDevice& device) {
  const layers::VisionTransformer& model = layers::as_vision_transformer(*trained.parts.model);
  const train::ImageEvaluationArgs args{.images = open_images(trained, options),
                                        .transform = trained.recipe.data.image,
                                        .batch = options.batch,
                                        .confusion = true};
  const train::ImageEvaluation result =
      train::evaluate_images(model, args, device.comm(), device.stream());
  if (!options.dump_logits.empty() && device.comm().rank() == 0)
    dump_logits(options.dump_logits, model, args, device.stream());
  const std::vector<train::ClassAccuracy> worst = train::worst_classes(result, kWorst);
  const std::vector<std::string>& names =
      trained.data.classes.empty() ? args.images->classes() : trained.data.classes;
  if (options.json) {
    nlohmann::ordered_json object{{"file", trained.file}, {"step", trained.progress.steps}};
    object.update(numbers_of(result));
    nlohmann::ordered_json& classes = object["worst_classes"] = nlohmann::ordered_json::array();
    for (const train::ClassAccuracy& one : worst) classes.push_back(json_of(one, names));
    return train::json_line(object);
  }
  std::string text = fmt::format("{}  step {}\n{}\nworst classes", trained.file,
                                 trained.progress.steps, to_string(result));
  for (const train::ClassAccuracy& one : worst) text += "\n" + text_of(one, names);
  return text;
}

}  // namespace hew
