#include "train/recipe_schema.h"

/// Keys of vision transformers and of the images that they read.
namespace hew::train {
namespace {

using layers::ModelConfig;

bool reads_images(const Recipe& recipe) {
  return recipe.model.reads_images();
}

Field<Recipe>& of_vit(Field<Recipe>& field) {
  return field.only_with("model.family", "vit", reads_images);
}

Limit<std::vector<double>> some_numbers() {
  return {"", [](const std::vector<double>& list) { return !list.empty(); }};
}

void add_augmentation_fields(std::vector<Field<Recipe>>& fields) {
  constexpr std::int64_t kMostOps = 8;
  constexpr double kMostMagnitude = 30;
  Section ops(
      fields, "data.image.rand_augment",
      [](auto& r) -> auto& { return r.data.image.rand_augment; });
  of_vit(ops.add("ops", &RandAugmentConfig::ops,
                 {"from 0 to 8", [](const std::int64_t& n) { return n >= 0 && n <= kMostOps; }},
                 "Operations of RandAugment in a row; 0: none."));
  of_vit(ops.add("magnitude", &RandAugmentConfig::magnitude, from_to(0, kMostMagnitude),
                 "How strong they are."));
  Section image(
      fields, "data.image", [](auto& r) -> auto& { return r.data.image; });
  of_vit(image.add("erase", &ImageTransformConfig::erase, from_to(0, 1),
                   "Probability that a rectangle is erased."));
  of_vit(image.add("mixup", &ImageTransformConfig::mixup, at_least(0.0),
                   "α of mixup's Beta distribution, one draw a batch; 0: none."));
  of_vit(image.add("cutmix", &ImageTransformConfig::cutmix, at_least(0.0),
                   "α of CutMix; 0: none. With mixup too, a batch has either, by chance."));
  of_vit(image.add("repeats", &ImageTransformConfig::repeats, at_least<std::int64_t>(1),
                   "Times that an image is in a batch, each time augmented anew; must divide "
                   "`train.batch`."));
}

}  // namespace

void add_vit_fields(std::vector<Field<Recipe>>& fields) {
  Section model(
      fields, "model", [](auto& r) -> auto& { return r.model; });
  of_vit(model
             .add("patch_size", &ModelConfig::patch_size, at_least<std::int64_t>(1),
                  "Pixels of a patch's side; must divide `data.image.size`.")
             .required_if("required", reads_images));
  of_vit(model.add("classes", &ModelConfig::classes, between(0, kLargestSize),
                   "Classes of the head; 0: those of the data."));
  of_vit(model.add("pooling", &ModelConfig::pooling,
                   "What the head looks at: a class token, or the mean of all tokens, of which "
                   "then none is a class token."));
  of_vit(model.add("drop_path", &ModelConfig::drop_path, below_one(),
                   "Stochastic depth: probability that a sample skips a branch of the last block; "
                   "of the blocks before it less, down to 0 in the first."));
}

void add_image_fields(std::vector<Field<Recipe>>& fields) {
  Section image(
      fields, "data.image", [](auto& r) -> auto& { return r.data.image; });
  of_vit(image
             .add("size", &ImageTransformConfig::size, at_least<std::int64_t>(1),
                  "Pixels of the side of the square that the model reads.")
             .required_if("required", reads_images));
  of_vit(image.add("channels", &ImageTransformConfig::channels,
                   {"that is 1 or 3", [](const std::int64_t& n) { return n == 1 || n == 3; }},
                   "Grey, or red, green and blue; images of the other kind are converted."));
  of_vit(image.add("mean", &ImageTransformConfig::mean, some_numbers(),
                   "What is subtracted from pixels in [0, 1]: one number, or one a channel."));
  of_vit(image.add("std", &ImageTransformConfig::std, some_numbers(),
                   "What they are then divided by."));
  of_vit(image.add("crop", &ImageTransformConfig::crop,
                   "What is cut out of training images: nothing, so that all must have the size; "
                   "the middle; a random part, made the size. Evaluation takes the middle."));
  of_vit(image.add("center_fraction", &ImageTransformConfig::center_fraction, from_to(0.01, 1),
                   "Part of the shorter side that the middle has."));
  of_vit(image.add("area_min", &ImageTransformConfig::area_min, from_to(0.0001, 1),
                   "Least part of the area that a random crop has."));
  of_vit(image.add("pad", &ImageTransformConfig::pad, at_least<std::int64_t>(0),
                   "Black pixels added on each side, before a square of the size is cut out at "
                   "random."));
  of_vit(image.add("flip", &ImageTransformConfig::flip, "Half of the images are mirrored."));
  add_augmentation_fields(fields);
}

}  // namespace hew::train
