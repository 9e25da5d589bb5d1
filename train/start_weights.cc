#include "train/start_weights.h"

#include <algorithm>
#include <map>
#include <set>
#include <vector>

#include "core/error.h"
#include "train/model_file.h"
#include "train/recipe_schema.h"

namespace hew::train {
namespace {

// Keys that say what a model is: of its section all but those of training and a name for sizes.
bool is_shape(const Field<Recipe>& field) {
  static const std::set<std::string> kTraining{"model.init", "model.dropout", "model.drop_path",
                                               "model.init_std", "model.size"};
  static const std::set<std::string> kOfImages{"data.image.size", "data.image.channels"};
  return field.section == "model" ? !kTraining.contains(field.key) : kOfImages.contains(field.key);
}

std::vector<std::string> differences(const Recipe& file, const Recipe& wanted) {
  std::vector<std::string> out;
  for (const auto& field : make_schema().recipe) {
    if (!is_shape(field) || !field.is_active(wanted))
      continue;
    const std::string there = field.write(file);
    const std::string here = field.write(wanted);
    if (there != here)
      out.push_back(fmt::format("{} is {}, the recipe has {}", field.key, there, here));
  }
  return out;
}

// A class without a name is called by its number: there is nothing to compare.
void require_classes(const Recipe& recipe, const std::vector<std::string>& known,
                     const std::vector<std::string>& wanted) {
  const std::size_t both = std::min(known.size(), wanted.size());
  for (std::size_t i = 0; i < both; ++i) {
    const std::string number = std::to_string(i);
    const bool named = known[i] != number && wanted[i] != number;
    require<DataError>(!named || known[i] == wanted[i], "{}: class {} is '{}', in {} it is '{}'",
                       recipe.start.init, i, known[i], recipe.data.train.front(), wanted[i]);
  }
}

}  // namespace

void copy_weights(const TrainedModel& from, layers::Model& to) {
  std::map<std::string, Tensor> values;
  for (const ag::Parameter* parameter : from.parts.model->parameters()) {
    values[parameter->name] = parameter->value();
  }
  for (const sparsity::LinearWeight* weight : from.parts.model->linear_weights()) {
    values[weight->name()] = weight->folded();
  }
  for (ag::Parameter* parameter : to.parameters()) {
    Tensor& target = parameter->var.mutable_value();
    target.copy_from(converted(values.at(parameter->name), target.dtype()));
  }
}

std::string start_from_init(const Recipe& recipe, const DataRecord& data, layers::Model& model) {
  const TrainedModel from = load_trained_model(recipe.start.init, make_cpu_stream());
  const std::vector<std::string> odd = differences(from.recipe, recipe);
  require<DataError>(odd.empty(), "{}: {}", recipe.start.init, fmt::join(odd, "; "));
  const TokenizerRecord& tokenizer = data.tokenizer;
  const std::string& known = from.data.tokenizer.sha256;
  require<DataError>(known.empty() || tokenizer.sha256.empty() || known == tokenizer.sha256,
                     "{}: was trained with another tokenizer ({} {:.12}) than data.train has "
                     "({} {:.12})",
                     recipe.start.init, from.data.tokenizer.kind, known, tokenizer.kind,
                     tokenizer.sha256);
  require_classes(recipe, from.data.classes, data.classes);
  copy_weights(from, model);
  return fmt::format("weights from {}", from.file);
}

}  // namespace hew::train
