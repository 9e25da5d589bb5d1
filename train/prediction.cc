#include "train/prediction.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "data/image_transform.h"
#include "layers/vision_transformer.h"
#include "train/model_file.h"

namespace hew::train {
namespace {

ImageTransform preparation(const ImageTransformConfig& config) {
  ImageTransformConfig any_size = config;
  if (config.crop == ImageCrop::kNone) {
    any_size.crop = ImageCrop::kCenter;
    any_size.center_fraction = 1;
  }
  return ImageTransform(any_size);
}

std::vector<double> softmax(const double* logits, std::int64_t classes) {
  std::vector<double> out(logits, logits + classes);
  const double largest = std::ranges::max(out);
  double sum = 0;
  for (double& value : out) {
    value = std::exp(value - largest);
    sum += value;
  }
  for (double& value : out) value /= sum;
  return out;
}

std::vector<ClassProbability> best(const std::vector<double>& probabilities, std::int64_t top,
                                   const std::vector<std::string>& names) {
  std::vector<std::size_t> order(probabilities.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, std::ranges::greater(),
                           [&](std::size_t label) { return probabilities[label]; });
  order.resize(std::min(order.size(), static_cast<std::size_t>(top)));
  std::vector<ClassProbability> out;
  out.reserve(order.size());
  for (const std::size_t label : order) {
    out.push_back({.label = static_cast<std::int64_t>(label),
                   .name = class_name(names, static_cast<std::int64_t>(label)),
                   .probability = probabilities[label]});
  }
  return out;
}

}  // namespace

std::vector<std::vector<ClassProbability>> predict(const TrainedModel& trained,
                                                   const std::vector<DecodedImage>& images,
                                                   std::int64_t top, std::int64_t batch,
                                                   const Stream& stream) {
  const layers::VisionTransformer& model = layers::as_vision_transformer(*trained.parts.model);
  const ImageTransform transform = preparation(trained.recipe.data.image);
  const auto count = static_cast<std::int64_t>(images.size());
  const std::int64_t size = transform.config().size;
  std::vector<std::vector<ClassProbability>> out;
  for (std::int64_t first = 0; first < count; first += batch) {
    const std::int64_t now = std::min(batch, count - first);
    std::vector<float> pixels(static_cast<std::size_t>(now * transform.numel()));
    for (std::int64_t i = 0; i < now; ++i) {
      transform.evaluate(images[static_cast<std::size_t>(first + i)],
                         std::span(pixels).subspan(static_cast<std::size_t>(i * transform.numel()),
                                                   static_cast<std::size_t>(transform.numel())));
    }
    const Tensor input =
        Tensor::from(pixels, {now, transform.config().channels, size, size}, stream);
    ag::ForwardContext context;  // activations in the dtype of the weights, which any device takes
    const Tensor logits = model.forward(input, context).value();
    const auto values = converted(logits, DType::kFloat64).to_vector<double>();
    const std::int64_t classes = logits.size(1);
    for (std::int64_t i = 0; i < now; ++i) {
      out.push_back(best(softmax(values.data() + i * classes, classes), top, trained.data.classes));
    }
  }
  return out;
}

}  // namespace hew::train
