#include "train/hugging_face.h"

#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/error.h"
#include "data/tokenizer.h"
#include "train/foreign_config.h"
#include "train/foreign_tensors.h"
#include "train/model_file.h"
#include "train/timm_config.h"

namespace hew::train {
namespace {

// The model's parameters by name, dead blocks as zeros, made when they are asked for.
class Values {
 public:
  explicit Values(layers::Model& model) {
    std::map<std::string, Shape> shapes;
    for (const ag::Parameter* p : model.parameters()) {
      shapes[p->name] = p->value().shape();
      values_[p->name] = [p] { return p->value(); };
    }
    for (const sparsity::LinearWeight* w : model.linear_weights()) {
      shapes[w->name()] = {w->out_features(), w->in_features()};
      values_[w->name()] = [w] { return w->folded(); };
    }
    shapes_.emplace(std::move(shapes));
    like_ = model.parameters().front()->value();
  }

  const ParameterShapes& shapes() const { return *shapes_; }
  // Zeros for a bias that the model lacks.
  Tensor of(const std::string& name) const {
    return shapes_->has(name) ? values_.at(name)()
                              : Tensor::zeros(shapes_->of(name), like_.dtype(), like_.stream());
  }

 private:
  std::optional<ParameterShapes> shapes_;
  std::map<std::string, std::function<Tensor()>> values_;
  Tensor like_;
};

// Theirs default to ids that a small vocabulary does not have.
nlohmann::ordered_json end_of_text(const TokenizerRecord& tokenizer) {
  if (tokenizer.kind.empty())
    return nullptr;
  const auto token = make_tokenizer(tokenizer.kind, tokenizer.blob)->end_of_text();
  return token ? nlohmann::ordered_json(*token) : nlohmann::ordered_json(nullptr);
}

}  // namespace

std::vector<NamedValues> hugging_face_tensors(const TrainedModel& trained, DType dtype) {
  const auto values = std::make_shared<const Values>(*trained.parts.model);
  std::vector<NamedValues> out;
  for (const ForeignTensor& tensor : foreign_tensors(trained.recipe.model)) {
    out.push_back(
        {.spec = {.name = tensor.name, .dtype = dtype, .shape = values->shapes().of(tensor)},
         .values = [values, tensor, dtype] {
           std::vector<Tensor> parts;
           for (const std::string& part : tensor.parts) parts.push_back(values->of(part));
           return converted(packed(tensor, parts), dtype);
         }});
  }
  return out;
}

std::string hugging_face_config(const TrainedModel& trained, DType dtype) {
  const layers::ModelConfig& config = trained.recipe.model;
  if (config.reads_images()) {
    const TimmModel timm{
        .model = config, .images = trained.recipe.data.image, .classes = trained.data.classes};
    return timm_config(timm).dump(2) + "\n";
  }
  nlohmann::ordered_json object = foreign_config(config);
  object["tie_word_embeddings"] = config.tied_embeddings;
  object["bos_token_id"] = end_of_text(trained.data.tokenizer);
  object["eos_token_id"] = object["bos_token_id"];
  object["pad_token_id"] = nullptr;
  object["use_cache"] = true;
  object["torch_dtype"] = name_of(dtype);
  return object.dump(2) + "\n";
}

}  // namespace hew::train
