#include "train/import.h"

#include <functional>
#include <numeric>
#include <set>

#include "core/error.h"
#include "data/tokenizer_choice.h"
#include "io/safetensors_folder.h"
#include "train/foreign_config.h"
#include "train/foreign_tensors.h"
#include "train/model_file.h"
#include "train/recipe_schema.h"

namespace hew::train {
namespace {

using layers::ModelConfig;
using layers::ModelFamily;

constexpr const char* kHead = "lm_head.weight";

ModelConfig adapted(ModelConfig config, const ImportOptions& options, const std::string& place) {
  if (options.vocab) {
    require<ConfigError>(*options.vocab >= config.vocab, "--vocab {}: {} has a vocabulary of {}",
                         *options.vocab, place, config.vocab);
    config.vocab = *options.vocab;
  }
  if (options.context) {
    require<ConfigError>(*options.context <= config.context, "--context {}: {} has {} positions",
                         *options.context, place, config.context);
    config.context = *options.context;
  }
  return config;
}

Recipe recipe_of(const ModelConfig& config) {
  Recipe recipe;
  recipe.model = config;
  recipe.run.dir = "imported";
  recipe.data.train = {"corpus.h5"};
  recipe.train.steps = 1;
  recipe.train.batch = 1;
  recipe.optim.lr = 1e-4;
  return parse_recipe(to_yaml(recipe), "imported model");
}

ParameterShapes shapes_of(const ModelConfig& config) {
  const SparseModel parts = build_model(recipe_of(config), make_cpu_stream(), Build::kShapesOnly);
  std::map<std::string, Shape> shapes;
  for (const ag::Parameter* parameter : parts.model->parameters()) {
    shapes[parameter->name] = parameter->value().shape();
  }
  return ParameterShapes(std::move(shapes));
}

// Reads a folder's tensors by the names that its architecture gives them.
class Tensors {
 public:
  Tensors(const std::filesystem::path& folder, const ModelConfig& config)
      : files_(folder), prefix_(foreign_prefix(config)) {
    for (const std::string& name : files_.names()) {
      has_prefix_ = has_prefix_ || name.starts_with(prefix_);
      if (!is_foreign_buffer(name))
        left_.insert(name);
    }
  }

  bool exists(const std::string& name) const { return files_.exists(stored_name(name)); }

  Tensor read(const std::string& asked, const Shape& shape) {
    const std::string name = stored_name(asked);
    const std::string place = fmt::format("{}: tensor '{}'", files_.holder(name).file(), name);
    require<DataError>(files_.shape(name) == shape && is_floating(files_.dtype(name)),
                       "{} is {} {}, expected {} by config.json", place,
                       name_of(files_.dtype(name)), to_string(files_.shape(name)),
                       to_string(shape));
    left_.erase(name);
    return converted(files_.read(name, make_cpu_stream()), DType::kFloat32);
  }

  void require_all_read() const {
    require<DataError>(left_.empty(), "{}: tensor '{}' has no place in the model of config.json",
                       left_.empty() ? "" : files_.holder(*left_.begin()).file(),
                       left_.empty() ? "" : *left_.begin());
  }
  void require_equal(const std::string& name, const Tensor& expected) {
    require<DataError>(
        read(name, expected.shape()).to_vector<float>() == expected.to_vector<float>(),
        "{}: tensor '{}' is not the embedding that config.json ties it to",
        files_.holder(stored_name(name)).file(), stored_name(name));
  }

 private:
  // A model that was saved without its head has no prefix.
  std::string stored_name(const std::string& name) const {
    return !has_prefix_ && name.starts_with(prefix_) ? name.substr(prefix_.size()) : name;
  }

  SafetensorsFolder files_;
  std::string prefix_;
  bool has_prefix_ = false;
  std::set<std::string> left_;
};

// A row for each token that theirs does not have: as likely as an average one, where a zero row
// could be the likeliest of all.
Tensor with_mean_rows(const Tensor& table, std::int64_t rows) {
  const std::int64_t have = table.size(0);
  const std::int64_t width = table.size(1);
  const auto values = table.to_vector<float>();
  std::vector<double> mean(static_cast<std::size_t>(width), 0.0);
  for (std::size_t i = 0; i < values.size(); ++i) {
    mean[i % mean.size()] += static_cast<double>(values[i]) / static_cast<double>(have);
  }
  std::vector<float> row(mean.begin(), mean.end());
  const Tensor addition = Tensor::from(row, {1, width}, table.stream());
  Tensor out = Tensor::empty({rows, width}, table.dtype(), table.stream());
  out.rows(0, have).copy_from(table);
  for (std::int64_t i = have; i < rows; ++i) out.rows(i, 1).copy_from(addition);
  return out;
}

// A parameter of theirs as the model has it.
Tensor adapted(const std::string& name, const Tensor& values, const ModelConfig& config) {
  const bool of_tokens = name == "token_embedding.weight" || name == "head.weight";
  if (of_tokens && values.size(0) < config.vocab)
    return with_mean_rows(values, config.vocab);
  if (name == "position_embedding.weight" && values.size(0) > config.context)
    return values.rows(0, config.context).clone();
  return values;
}

void fill(layers::Model& model, std::map<std::string, Tensor>& values) {
  std::set<std::string> filled;
  for (sparsity::LinearWeight* weight : model.linear_weights()) {
    weight->restore(sparsity::Storage::kDense, nullptr, values.at(weight->name()), Tensor());
    filled.insert(weight->name());
  }
  for (ag::Parameter* parameter : model.parameters()) {
    if (!filled.contains(parameter->name))
      parameter->var = ag::Variable(values.at(parameter->name), /*requires_grad=*/true);
  }
}

std::map<std::string, Tensor> read_parameters(const std::filesystem::path& folder,
                                              const ModelConfig& theirs, const ModelConfig& ours) {
  Tensors tensors(folder, theirs);
  const ParameterShapes shapes = shapes_of(theirs);
  std::map<std::string, Tensor> values;
  Tensor embedding;
  for (const ForeignTensor& tensor : foreign_tensors(theirs)) {
    const std::vector<Tensor> parts =
        unpacked(tensor, tensors.read(tensor.name, shapes.of(tensor)), shapes);
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const std::string& name = tensor.parts[i];
      if (name == "token_embedding.weight")
        embedding = parts[i];
      values[name] = adapted(name, parts[i], ours);
    }
  }
  if (theirs.tied_embeddings && tensors.exists(kHead))
    tensors.require_equal(kHead, embedding);
  tensors.require_all_read();
  return values;
}

TokenizerRecord read_tokenizer(const std::filesystem::path& folder, std::int64_t vocab) {
  TokenizerChoice choice;
  if (std::filesystem::exists(folder / "tokenizer.model")) {
    choice.kind = "sentencepiece";
    choice.sentencepiece_model = (folder / "tokenizer.model").string();
  } else if (std::filesystem::exists(folder / "vocab.json") &&
             std::filesystem::exists(folder / "merges.txt")) {
    choice.kind = "gpt2";
    choice.encoder_json = (folder / "vocab.json").string();
    choice.vocab_bpe = (folder / "merges.txt").string();
  } else {
    return {};
  }
  const std::unique_ptr<Tokenizer> tokenizer = load_tokenizer(choice);
  require<DataError>(tokenizer->vocab_size() <= vocab,
                     "{}: its tokenizer has {} tokens, the model {}; --no-tokenizer leaves it out",
                     folder.string(), tokenizer->vocab_size(), vocab);
  return {.kind = std::string(tokenizer->kind()),
          .blob = tokenizer->serialized(),
          .sha256 = tokenizer->sha256()};
}

}  // namespace

TrainedModel import_model(const std::filesystem::path& folder, const ImportOptions& options) {
  require<DataError>(std::filesystem::is_directory(folder),
                     "{}: no such folder; expected one with config.json and model.safetensors",
                     folder.string());
  const JsonFields config = JsonFields::read(folder / "config.json");
  const ModelConfig theirs = read_foreign_config(config);
  const ModelConfig ours = adapted(theirs, options, (folder / "config.json").string());
  TrainedModel trained;
  trained.recipe = recipe_of(ours);
  trained.file = folder.string();
  if (options.tokenizer)
    trained.data.tokenizer = read_tokenizer(folder, ours.vocab);
  std::map<std::string, Tensor> values = read_parameters(folder, theirs, ours);
  trained.parts = build_model(trained.recipe, make_cpu_stream(), Build::kShapesOnly);
  fill(*trained.parts.model, values);
  return trained;
}

std::string model_section(const Recipe& recipe) {
  std::string out;
  for (const auto& field : make_schema().recipe) {
    if (field.section == "model" && field.key != "model.init" && field.is_active(recipe)) {
      out += fmt::format("{}{}: {}", out.empty() ? "model: {" : ", ",
                         field.key.substr(std::string("model.").size()), field.write(recipe));
    }
  }
  return out + "}";
}

}  // namespace hew::train
