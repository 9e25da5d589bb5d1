#include "train/timm_config.h"

#include <array>
#include <cmath>
#include <string_view>
#include <utility>

#include "core/error.h"

namespace hew::train {
namespace {

using kernels::Activation;
using layers::ModelConfig;
using layers::ModelFamily;
using layers::Pooling;
using nlohmann::ordered_json;

struct KnownSize {
  std::string_view name;  // in vit_<name>_patch16_224
  std::int64_t width;
  std::int64_t heads;
};
constexpr std::array<KnownSize, 5> kSizes{{{"tiny", 192, 3},
                                           {"small", 384, 6},
                                           {"base", 768, 12},
                                           {"large", 1024, 16},
                                           {"huge", 1280, 16}}};

constexpr std::array<std::pair<Activation, std::string_view>, 4> kActivations{
    {{Activation::kGelu, "gelu"},
     {Activation::kGeluTanh, "gelu_tanh"},
     {Activation::kSilu, "silu"},
     {Activation::kRelu, "relu"}}};

constexpr double kNormEps = 1e-6;

// A name that timm has registered; model_args say what is different.
std::string architecture(const ModelConfig& model) {
  const KnownSize* nearest = kSizes.data();
  for (const KnownSize& size : kSizes) {
    if (std::abs(size.width - model.width) < std::abs(nearest->width - model.width))
      nearest = &size;
  }
  return fmt::format("vit_{}_patch16_224", nearest->name);
}

// timm cuts width · ratio off to an integer.
double mlp_ratio(const ModelConfig& model) {
  const auto width = static_cast<double>(model.width);
  const double ratio = static_cast<double>(model.mlp_width) / width;
  const bool exact = static_cast<std::int64_t>(width * ratio) == model.mlp_width;
  return exact ? ratio : std::nextafter(ratio, 2 * ratio);
}

std::string_view activation_name(Activation activation) {
  for (const auto& [ours, theirs] : kActivations) {
    if (ours == activation)
      return theirs;
  }
  throw ConfigError("model.activation: timm has no name for it");
}

// One number for each channel.
std::vector<double> spread(const std::vector<double>& values, std::int64_t channels) {
  return values.size() == 1
             ? std::vector<double>(static_cast<std::size_t>(channels), values.front())
             : values;
}

ordered_json preprocessing(const TimmModel& timm) {
  const ImageTransformConfig& images = timm.images;
  const ModelConfig& m = timm.model;
  const double part = images.crop == ImageCrop::kNone ? 1.0 : images.center_fraction;
  ordered_json out{{"custom_load", false},
                   {"input_size", {m.channels, m.image_size, m.image_size}},
                   {"fixed_input_size", true},
                   {"interpolation", timm.interpolation},
                   {"crop_pct", part},
                   {"crop_mode", "center"},
                   {"mean", spread(images.mean, m.channels)},
                   {"std", spread(images.std, m.channels)},
                   {"num_classes", m.classes},
                   {"pool_size", nullptr},
                   {"first_conv", "patch_embed.proj"},
                   {"classifier", "head"}};
  if (!timm.classes.empty())
    out["label_names"] = timm.classes;
  return out;
}

bool has(const SafetensorsFolder& tensors, const std::string& name, int rank) {
  return tensors.exists(name) && tensors.shape(name).rank() == rank;
}

const Shape& shape_of(const SafetensorsFolder& tensors, const std::string& name, int rank) {
  require<DataError>(has(tensors, name, rank), "{}: tensor '{}' {}", tensors.file(), name,
                     tensors.exists(name) ? fmt::format("is {}, expected {} axes",
                                                        to_string(tensors.shape(name)), rank)
                                          : "is missing");
  return tensors.shape(name);
}

std::int64_t read_heads(const JsonFields& config, std::int64_t width) {
  const JsonFields arguments = config.object("model_args");
  const std::string name = config.text_or("architecture", "");
  std::int64_t heads = 0;
  for (const KnownSize& size : kSizes) {
    if (name.starts_with(fmt::format("vit_{}_", size.name)))
      heads = size.heads;
  }
  heads = arguments.size_or("num_heads", heads);
  if (heads == 0)
    config.refuse("architecture",
                  "vit_tiny_…, small, base, large or huge, or model_args.num_heads");
  require<DataError>(width % heads == 0, "{}model_args.num_heads: {} does not divide a width of {}",
                     config.place(), heads, width);
  return heads;
}

Activation read_activation(const JsonFields& arguments) {
  const std::string name = arguments.text_or("act_layer", "gelu");
  for (const auto& [ours, theirs] : kActivations) {
    if (theirs == name)
      return ours;
  }
  arguments.refuse("act_layer", "gelu, gelu_tanh, silu or relu");
}

// The class token alone, or the mean of all tokens behind the norm where there is none.
Pooling read_pooling(const JsonFields& config, bool class_token) {
  const JsonFields arguments = config.object("model_args");
  const std::string pool = arguments.text_or("global_pool", config.text_or("global_pool", "token"));
  if (pool == "token" && class_token)
    return Pooling::kClassToken;
  if (pool != "avg" || class_token || arguments.flag_or("fc_norm", true)) {
    config.refuse("global_pool",
                  "token with a class token, or avg without one and with model_args.fc_norm false");
  }
  return Pooling::kMean;
}

// Grid side of so many patches.
std::int64_t side_of(const SafetensorsFolder& tensors, std::int64_t patches) {
  const auto side = std::llround(std::sqrt(static_cast<double>(patches)));
  require<DataError>(side * side == patches,
                     "{}: tensor 'pos_embed' has {} patches, expected a square number",
                     tensors.file(), patches);
  return side;
}

ModelConfig read_model(const JsonFields& config, const SafetensorsFolder& tensors) {
  const JsonFields arguments = config.object("model_args");
  arguments.expect("qkv_bias", true);
  arguments.expect("pre_norm", false);
  const Shape patch = shape_of(tensors, "patch_embed.proj.weight", 4);
  ModelConfig model{
      .family = ModelFamily::kVit,
      .width = patch[0],
      .mlp_width = shape_of(tensors, "blocks.0.mlp.fc1.weight", 2)[0],
      .tied_embeddings = false,
      .bias = true,
      .activation = read_activation(arguments),
      .norm_eps = kNormEps,
      .channels = patch[1],
      .patch_size = patch[2],
      .classes = tensors.exists("head.weight") ? shape_of(tensors, "head.weight", 2)[0] : 0,
      .pooling = read_pooling(config, tensors.exists("cls_token"))};
  while (tensors.exists(fmt::format("blocks.{}.norm1.weight", model.layers))) ++model.layers;
  model.heads = read_heads(config, model.width);
  model.kv_heads = model.heads;
  model.context = shape_of(tensors, "pos_embed", 3)[1];
  const std::int64_t first = model.pooling == Pooling::kClassToken ? 1 : 0;
  model.image_size = side_of(tensors, model.context - first) * model.patch_size;
  return model;
}

std::vector<double> read_numbers(const JsonFields& config, const std::string& key,
                                 std::int64_t count, double fallback) {
  if (!config.has(key))
    return {fallback};
  const nlohmann::json& list = config.value(key);
  std::vector<double> out;
  for (const nlohmann::json& item : list) {
    if (item.is_number())
      out.push_back(item.get<double>());
  }
  if (!list.is_array() || out.size() != list.size() || std::ssize(out) != count)
    config.refuse(key, fmt::format("{} numbers", count));
  return out;
}

// A list, or an object of names by number. That one may have gaps, which keep their numbers.
std::vector<std::string> read_names(const JsonFields& config, std::int64_t count) {
  const nlohmann::json& names = config.value("label_names");
  std::vector<std::string> out;
  std::int64_t known = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    std::string name = std::to_string(i);
    const nlohmann::json* item = nullptr;
    if (names.is_object() && names.contains(name))
      item = &names.at(name);
    else if (names.is_array() && i < std::ssize(names))
      item = &names.at(static_cast<std::size_t>(i));
    if (item != nullptr && item->is_string()) {
      name = item->get<std::string>();
      ++known;
    }
    out.push_back(std::move(name));
  }
  if (names.is_object() && known != std::ssize(names))
    config.refuse("label_names", fmt::format("names by numbers from 0 to {}", count - 1));
  if (!names.is_object() && (known != count || known != std::ssize(names)))
    config.refuse("label_names", fmt::format("{} names", count));
  return out;
}

// timm takes those beside pretrained_cfg before those in it.
std::vector<std::string> read_classes(const JsonFields& config, const JsonFields& kept,
                                      std::int64_t count) {
  if (count == 0)
    return {};
  if (config.has("label_names"))
    return read_names(config, count);
  return kept.has("label_names") ? read_names(kept, count) : std::vector<std::string>{};
}

}  // namespace

ordered_json timm_config(const TimmModel& timm) {
  const ModelConfig& m = timm.model;
  require<ConfigError>(m.norm_eps == kNormEps, "model.norm_eps: {}; timm's ViT has {}", m.norm_eps,
                       kNormEps);
  const bool mean = m.pooling == Pooling::kMean;
  ordered_json arguments{{"img_size", m.image_size},  {"patch_size", m.patch_size},
                         {"in_chans", m.channels},    {"embed_dim", m.width},
                         {"depth", m.layers},         {"num_heads", m.heads},
                         {"mlp_ratio", mlp_ratio(m)}, {"act_layer", activation_name(m.activation)},
                         {"class_token", !mean}};
  if (mean) {
    arguments["global_pool"] = "avg";
    arguments["fc_norm"] = false;
  }
  return {{"architecture", architecture(m)}, {"num_classes", m.classes},
          {"num_features", m.width},         {"global_pool", mean ? "avg" : "token"},
          {"model_args", arguments},         {"pretrained_cfg", preprocessing(timm)}};
}

TimmModel read_timm_config(const JsonFields& config, const SafetensorsFolder& tensors) {
  TimmModel out{.model = read_model(config, tensors), .images = {}, .classes = {}};
  // In older files it is not an object of its own.
  const JsonFields kept = config.has("pretrained_cfg") ? config.object("pretrained_cfg") : config;
  ImageTransformConfig& images = out.images;
  images.size = out.model.image_size;
  images.channels = out.model.channels;
  images.mean = read_numbers(kept, "mean", images.channels, 0.5);
  images.std = read_numbers(kept, "std", images.channels, 0.5);
  images.center_fraction = kept.number_or("crop_pct", images.center_fraction);
  images.crop = ImageCrop::kCenter;
  out.classes = read_classes(config, kept, out.model.classes);
  out.interpolation = kept.text_or("interpolation", "bicubic");  // timm's where none is said
  return out;
}

}  // namespace hew::train
