#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "data/image_config.h"
#include "io/safetensors_folder.h"
#include "layers/config.h"
#include "train/json_fields.h"

namespace hew::train {

/// What timm keeps of a vision transformer beside its weights. Of `images` what evaluation needs.
struct TimmModel {
  layers::ModelConfig model;
  ImageTransformConfig images;
  std::vector<std::string> classes;        // their names, where they are known
  std::string interpolation = "bilinear";  // how images are resized
};

/// config.json for timm.create_model("local-dir:FOLDER") and for the Hugging Face Hub. Throws
/// ConfigError where timm's VisionTransformer cannot express the model: an ε of its norms that is
/// not 1e-6.
nlohmann::ordered_json timm_config(const TimmModel& timm);

/// The inverse; sizes are those of the tensors, and the number of heads that of the architecture's
/// name where model_args does not say it. `classes` are 0 where the head was left out. Throws
/// DataError naming file and key or tensor, also for what hew's ViT cannot express; interpolation
/// can be any.
TimmModel read_timm_config(const JsonFields& config, const SafetensorsFolder& tensors);

}  // namespace hew::train
