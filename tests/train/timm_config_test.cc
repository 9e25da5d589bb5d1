#include "train/timm_config.h"

#include <doctest/doctest.h>

#include <cstring>
#include <map>

#include "core/error.h"
#include "layers/vision_transformer.h"
#include "tests/io/scratch.h"
#include "train/foreign_tensors.h"

namespace hew::test {
namespace {

using train::TimmModel;

TimmModel small_model(layers::Pooling pooling) {
  const bool token = pooling == layers::Pooling::kClassToken;
  return {.model = {.family = layers::ModelFamily::kVit,
                    .layers = 2,
                    .heads = 3,
                    .kv_heads = 3,
                    .width = 12,
                    .mlp_width = 20,
                    .context = token ? 10 : 9,
                    .tied_embeddings = false,
                    .activation = kernels::Activation::kGelu,
                    .norm_eps = 1e-6,
                    .image_size = 12,
                    .channels = 3,
                    .patch_size = 4,
                    .classes = 5,
                    .pooling = pooling},
          .images = {.size = 12,
                     .channels = 3,
                     .mean = {0.485, 0.456, 0.406},
                     .std = {0.229, 0.224, 0.225},
                     .crop = ImageCrop::kCenter,
                     .center_fraction = 0.9},
          .classes = {"boot", "bag", "coat", "shirt", "sandal"}};
}

// timm.models.vision_transformer.VisionTransformer's state dict, restated.
std::map<std::string, Shape> timm_state_dict(const layers::ModelConfig& m) {
  const std::int64_t width = m.width;
  std::map<std::string, Shape> out{
      {"pos_embed", {1, m.context, width}},
      {"patch_embed.proj.weight", {width, m.channels, m.patch_size, m.patch_size}},
      {"patch_embed.proj.bias", {width}},
      {"norm.weight", {width}},
      {"norm.bias", {width}},
      {"head.weight", {m.classes, width}},
      {"head.bias", {m.classes}}};
  if (m.pooling == layers::Pooling::kClassToken)
    out["cls_token"] = {1, 1, width};
  for (std::int64_t i = 0; i < m.layers; ++i) {
    const std::string block = "blocks." + std::to_string(i) + ".";
    const std::map<std::string, std::pair<std::int64_t, std::int64_t>> linears{
        {"attn.qkv", {3 * width, width}},
        {"attn.proj", {width, width}},
        {"mlp.fc1", {m.mlp_width, width}},
        {"mlp.fc2", {width, m.mlp_width}}};
    for (const auto& [name, shape] : linears) {
      out[block + name + ".weight"] = {shape.first, shape.second};
      out[block + name + ".bias"] = {shape.first};
    }
    for (const std::string norm : {"norm1", "norm2"}) {
      out[block + norm + ".weight"] = {width};
      out[block + norm + ".bias"] = {width};
    }
  }
  return out;
}

train::ParameterShapes shapes_of(const layers::ModelConfig& config) {
  layers::VisionTransformer model(config, {.seed = 1, .stream = make_cpu_stream()});
  std::map<std::string, Shape> shapes;
  for (const ag::Parameter* p : model.parameters()) shapes[p->name] = p->value().shape();
  return train::ParameterShapes(std::move(shapes));
}

void write_tensors(const std::filesystem::path& path, const std::map<std::string, Shape>& shapes) {
  std::vector<TensorSpec> specs;
  for (const auto& [name, shape] : shapes)
    specs.push_back({.name = name, .dtype = DType::kFloat32, .shape = shape});
  SafetensorsWriter writer(path, specs, {});
  for (const auto& [name, shape] : shapes) {
    writer.write(name, Tensor::zeros(shape, DType::kFloat32, make_cpu_stream()));
  }
  writer.commit();
}

// The model that a config and tensors of these shapes are read as; or the error.
TimmModel read(const nlohmann::json& config, const std::map<std::string, Shape>& shapes) {
  const Scratch folder;
  write_tensors(folder / "model.safetensors", shapes);
  return train::read_timm_config({config, "config.json: "}, SafetensorsFolder(folder.path()));
}
std::string error_of(const nlohmann::json& config, const std::map<std::string, Shape>& shapes) {
  return data_error_of([&] { read(config, shapes); });
}

}  // namespace

TEST_CASE("a ViT's tensors are those of timm's module tree, of both poolings") {
  for (const auto pooling : {layers::Pooling::kClassToken, layers::Pooling::kMean}) {
    const layers::ModelConfig model = small_model(pooling).model;
    const train::ParameterShapes shapes = shapes_of(model);
    std::map<std::string, Shape> found;
    for (const train::ForeignTensor& tensor : train::foreign_tensors(model)) {
      found[tensor.name] = shapes.of(tensor);
    }
    CHECK(found == timm_state_dict(model));
  }
}

TEST_CASE("q, k and v lie under one another in timm's qkv, and come apart again") {
  const layers::ModelConfig model = small_model(layers::Pooling::kClassToken).model;
  const train::ParameterShapes shapes = shapes_of(model);
  for (const train::ForeignTensor& tensor : train::foreign_tensors(model)) {
    std::vector<Tensor> parts;
    float next = 0;
    for (const std::string& name : tensor.parts) {
      std::vector<float> values(static_cast<std::size_t>(shapes.of(name).numel()));
      for (float& value : values) value = ++next;
      parts.push_back(Tensor::from(values, shapes.of(name), make_cpu_stream()));
    }
    const Tensor all = train::packed(tensor, parts);
    CHECK(all.shape() == shapes.of(tensor));
    // All of them keep the order of elements.
    const auto values = all.to_vector<float>();
    for (std::size_t i = 0; i < values.size(); ++i) CHECK(values[i] == static_cast<float>(i + 1));
    const std::vector<Tensor> back = train::unpacked(tensor, all, shapes);
    REQUIRE(back.size() == parts.size());
    for (std::size_t i = 0; i < parts.size(); ++i) {
      CHECK(back[i].shape() == parts[i].shape());
      CHECK(back[i].to_vector<float>() == parts[i].to_vector<float>());
    }
  }
}

TEST_CASE("timm's config says the model and its preprocessing, and is read back") {
  for (const auto pooling : {layers::Pooling::kClassToken, layers::Pooling::kMean}) {
    const TimmModel model = small_model(pooling);
    const auto config = train::timm_config(model);
    const TimmModel back = read(config, timm_state_dict(model.model));
    CHECK(back.model == model.model);
    CHECK(back.images.size == 12);
    CHECK(back.images.channels == 3);
    CHECK(back.images.mean == model.images.mean);
    CHECK(back.images.std == model.images.std);
    CHECK(back.images.center_fraction == 0.9);
    CHECK(back.classes == model.classes);
    CHECK(back.interpolation == "bilinear");
  }
  const auto config = train::timm_config(small_model(layers::Pooling::kClassToken));
  CHECK(config["architecture"] == "vit_tiny_patch16_224");
  CHECK(config["pretrained_cfg"]["input_size"] == std::vector<int>{3, 12, 12});
  const double ratio = config["model_args"]["mlp_ratio"];
  CHECK(static_cast<int>(12 * ratio) == 20);
}

TEST_CASE("timm's own configs have the architecture's name, older ones no pretrained_cfg") {
  layers::ModelConfig wanted = small_model(layers::Pooling::kClassToken).model;
  wanted.heads = wanted.kv_heads = 3;
  const auto shapes = timm_state_dict(wanted);
  const TimmModel hub = read({{"architecture", "vit_tiny_patch16_224"},
                              {"num_classes", 5},
                              {"pretrained_cfg", {{"mean", {0.5, 0.5, 0.4}}, {"crop_pct", 0.95}}}},
                             shapes);
  CHECK(hub.model == wanted);
  CHECK(hub.images.mean == std::vector<double>{0.5, 0.5, 0.4});
  CHECK(hub.images.std == std::vector<double>{0.5});
  CHECK(hub.images.center_fraction == 0.95);
  CHECK(hub.interpolation == "bicubic");
  const TimmModel old =
      read({{"architecture", "vit_tiny_patch4_12.augreg_in21k"}, {"std", {0.1, 0.2, 0.3}}}, shapes);
  CHECK(old.images.std == std::vector<double>{0.1, 0.2, 0.3});
  auto headless = shapes;
  headless.erase("head.weight");
  headless.erase("head.bias");
  CHECK(read({{"architecture", "vit_tiny"}, {"model_args", {{"num_heads", 6}}}}, headless)
            .model.classes == 0);
}

TEST_CASE("classes are named by a list or by number, at the root before pretrained_cfg") {
  TimmModel model = small_model(layers::Pooling::kClassToken);
  model.model.classes = 12;  // as text, "10" comes before "2"
  model.classes.clear();
  const auto shapes = timm_state_dict(model.model);
  nlohmann::json config = train::timm_config(model);
  CHECK(read(config, shapes).classes.empty());
  std::vector<std::string> names;
  nlohmann::json numbered;
  for (int i = 0; i < 12; ++i) {
    names.push_back("name " + std::to_string(i));
    numbered[std::to_string(i)] = names.back();
  }
  config["pretrained_cfg"]["label_names"] = numbered;
  CHECK(read(config, shapes).classes == names);
  std::vector<std::string> others = names;
  others[10] = "other";
  config["label_names"] = others;
  CHECK(read(config, shapes).classes == others);
  config["label_names"] = numbered;
  config["label_names"].erase("3");
  names[3] = "3";
  CHECK(read(config, shapes).classes == names);

  config["label_names"]["12"] = "beyond";
  CHECK(error_of(config, shapes).find("config.json: label_names: got {") == 0);
  CHECK(error_of(config, shapes).find("expected names by numbers from 0 to 11") !=
        std::string::npos);
  others.emplace_back("beyond");
  for (const nlohmann::json& wrong :
       {nlohmann::json(others), nlohmann::json("boot"), nlohmann::json({"boot", 1})}) {
    config["label_names"] = wrong;
    CHECK(error_of(config, shapes).find("expected 12 names") != std::string::npos);
  }
  auto headless = shapes;
  headless.erase("head.weight");
  headless.erase("head.bias");
  CHECK(read(config, headless).classes.empty());
}

TEST_CASE("what hew's ViT cannot express is refused by key or tensor") {
  const TimmModel model = small_model(layers::Pooling::kClassToken);
  const auto shapes = timm_state_dict(model.model);
  const nlohmann::json good = train::timm_config(model);
  const auto with = [&](const std::string& pointer, const nlohmann::json& value) {
    nlohmann::json config = good;
    config[nlohmann::json::json_pointer(pointer)] = value;
    return error_of(config, shapes);
  };
  CHECK(with("/model_args/num_heads", 5) ==
        "config.json: model_args.num_heads: 5 does not divide a width of 12");
  CHECK(with("/model_args/act_layer", "quick_gelu") ==
        "config.json: model_args.act_layer: got \"quick_gelu\", expected gelu, gelu_tanh, silu or "
        "relu");
  CHECK(with("/model_args/qkv_bias", false).find("qkv_bias: got false") != std::string::npos);
  CHECK(with("/model_args/global_pool", "map").find("config.json: global_pool: ") == 0);
  CHECK(with("/pretrained_cfg/mean", {0.5, 0.5}).find("pretrained_cfg.mean: got [0.5,0.5]") !=
        std::string::npos);
  CHECK(with("/pretrained_cfg/label_names", {"a"}).find("expected 5 names") != std::string::npos);
  CHECK(error_of({{"architecture", "vit_medium_patch16"}}, shapes)
            .find("config.json: architecture: got \"vit_medium_patch16\"") == 0);
  auto odd = shapes;
  odd["pos_embed"] = {1, 9, 12};
  CHECK(error_of(good, odd).find("tensor 'pos_embed' has 8 patches") != std::string::npos);
  odd = shapes;
  odd["patch_embed.proj.weight"] = {12, 48};
  CHECK(error_of(good, odd).find("'patch_embed.proj.weight' is [12, 48], expected 4 axes") !=
        std::string::npos);
  odd.erase("patch_embed.proj.weight");
  CHECK(error_of(good, odd).find("'patch_embed.proj.weight' is missing") != std::string::npos);
  TimmModel other = model;
  other.model.norm_eps = 1e-5;
  CHECK_THROWS_WITH_AS(train::timm_config(other), "model.norm_eps: 1e-05; timm's ViT has 1e-06",
                       ConfigError);
}

}  // namespace hew::test
