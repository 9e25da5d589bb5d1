#include "train/import.h"

#include <functional>
#include <numeric>
#include <set>
#include <sstream>

#include "core/error.h"
#include "data/tokenizer_choice.h"
#include "io/safetensors_folder.h"
#include "layers/initializer.h"
#include "train/foreign_config.h"
#include "train/foreign_tensors.h"
#include "train/model_file.h"
#include "train/recipe_schema.h"
#include "train/resize_positions.h"
#include "train/timm_config.h"

namespace hew::train {
namespace {

using layers::ModelConfig;

constexpr const char* kHead = "lm_head.weight";

// Options of the one kind of model are refused for the other.
void check_options(const ImportOptions& options, const ModelConfig& config,
                   const std::string& place) {
  const bool of_text = options.vocab || options.context;
  const bool of_images = options.image_size || options.classes;
  require<ConfigError>(!config.reads_images() || !of_text, "--vocab, --context: {} is of a {}",
                       place, name_of(config.family));
  require<ConfigError>(config.reads_images() || !of_images,
                       "--image-size, --classes: {} is of a {}", place, name_of(config.family));
}

ModelConfig adapted_vit(ModelConfig config, const ImportOptions& options,
                        const std::string& place) {
  const std::int64_t patch = config.patch_size;
  config.image_size = options.image_size.value_or(config.image_size);
  require<ConfigError>(config.image_size % patch == 0,
                       "--image-size {}: {} has patches of {} pixels", config.image_size, place,
                       patch);
  config.context = config.image_tokens();
  config.classes = options.classes.value_or(config.classes);
  require<ConfigError>(config.classes > 0, "--classes: {} has no head, so it must be said", place);
  return config;
}

ModelConfig adapted(ModelConfig config, const ImportOptions& options, const std::string& place) {
  check_options(options, config, place);
  if (config.reads_images())
    return adapted_vit(config, options, place);
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

// Problems are of `place`, which asked for them: nobody has seen the recipe's lines.
Recipe checked(const Recipe& recipe, const std::string& place) {
  try {
    return parse_recipe(to_yaml(recipe), "recipe");
  } catch (const ConfigError& error) {
    std::string problems;
    std::istringstream lines(error.what());
    for (std::string line; std::getline(lines, line);) {
      const std::size_t behind = line.find(": ");  // recipe:17: optim.lr: …
      problems += fmt::format("{}{}{}", problems.empty() ? "" : "\n", place,
                              behind == std::string::npos ? ": " + line : line.substr(behind));
    }
    throw DataError(problems);
  }
}

// `place` is the config.json that the model is of.
Recipe recipe_of(const ModelConfig& config, const std::string& place,
                 ImageTransformConfig images = {}) {
  Recipe recipe;
  recipe.model = config;
  recipe.run.dir = "imported";
  recipe.data.train = {config.reads_images() ? "images" : "corpus.h5"};
  if (config.reads_images()) {
    images.size = config.image_size;
    images.channels = config.channels;
    recipe.data.image = images;
  }
  recipe.train.steps = 1;
  recipe.train.batch = 1;
  recipe.optim.lr = 1e-4;
  return checked(recipe, place);
}

ParameterShapes shapes_of(const ModelConfig& config, const std::string& place) {
  const SparseModel parts =
      build_model(recipe_of(config, place), make_cpu_stream(), Build::kShapesOnly);
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
Tensor adapted(const std::string& name, const Tensor& values, const ModelConfig& theirs,
               const ModelConfig& ours) {
  const bool positions = name == "position_embedding.weight";
  if (ours.reads_images()) {
    const std::int64_t first = theirs.image_tokens() - theirs.patches();
    return positions ? resize_positions(values, first, theirs.image_size / theirs.patch_size,
                                        ours.image_size / ours.patch_size)
                     : values;
  }
  const bool of_tokens = name == "token_embedding.weight" || name == "head.weight";
  if (of_tokens && values.size(0) < ours.vocab)
    return with_mean_rows(values, ours.vocab);
  if (positions && values.size(0) > ours.context)
    return values.rows(0, ours.context).clone();
  return values;
}

// A head as in a new model.
void add_new_head(const ModelConfig& config, std::map<std::string, Tensor>& values) {
  const layers::Initializer init{.seed = 1, .stream = make_cpu_stream()};
  values["head.weight"] =
      init.normal("head.weight", {config.classes, config.width}, config.init_std);
  values["head.bias"] = init.constant({config.classes}, 0);
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

// A ViT without a head has 0 classes; of one with another number the head is made anew.
std::map<std::string, Tensor> read_parameters(const std::filesystem::path& folder,
                                              ModelConfig theirs, const ModelConfig& ours) {
  Tensors tensors(folder, theirs);
  const bool headless = theirs.reads_images() && theirs.classes == 0;
  if (headless)
    theirs.classes = ours.classes;
  const ParameterShapes shapes = shapes_of(theirs, (folder / "config.json").string());
  std::map<std::string, Tensor> values;
  Tensor embedding;
  for (const ForeignTensor& tensor : foreign_tensors(theirs)) {
    if (headless && tensor.name.starts_with("head."))
      continue;
    const std::vector<Tensor> parts =
        unpacked(tensor, tensors.read(tensor.name, shapes.of(tensor)), shapes);
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const std::string& name = tensor.parts[i];
      if (name == "token_embedding.weight")
        embedding = parts[i];
      values[name] = adapted(name, parts[i], theirs, ours);
    }
  }
  if (headless || theirs.classes != ours.classes)
    add_new_head(ours, values);
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
  // Hugging Face's own has a model_type, timm's an architecture.
  const TimmModel theirs =
      config.has("architecture") && !config.has("model_type")
          ? read_timm_config(config, SafetensorsFolder(folder))
          : TimmModel{.model = read_foreign_config(config), .images = {}, .classes = {}};
  const std::string place = (folder / "config.json").string();
  const ModelConfig ours = adapted(theirs.model, options, place);
  TrainedModel trained;
  trained.recipe = recipe_of(ours, place, theirs.images);
  trained.file = folder.string();
  if (ours.reads_images() && ours.classes == theirs.model.classes)
    trained.data.classes = theirs.classes;
  if (theirs.interpolation != "bilinear") {
    trained.warnings.push_back(fmt::format("{}: interpolation is {}, but hew resizes bilinearly",
                                           place, theirs.interpolation));
  }
  if (!ours.reads_images() && options.tokenizer)
    trained.data.tokenizer = read_tokenizer(folder, ours.vocab);
  std::map<std::string, Tensor> values = read_parameters(folder, theirs.model, ours);
  trained.parts = build_model(trained.recipe, make_cpu_stream(), Build::kShapesOnly);
  fill(*trained.parts.model, values);
  return trained;
}

std::string model_section(const Recipe& recipe) {
  static const std::set<std::string> kOfImages{"data.image.size", "data.image.channels",
                                               "data.image.mean", "data.image.std",
                                               "data.image.crop", "data.image.center_fraction"};
  std::string model;
  std::string images;
  for (const auto& field : make_schema().recipe) {
    if (!field.is_active(recipe) || field.key == "model.init" || field.key == "model.size")
      continue;
    std::string* const out = field.section == "model"        ? &model
                             : kOfImages.contains(field.key) ? &images
                                                             : nullptr;
    if (out != nullptr) {
      *out += fmt::format("{}{}: {}", out->empty() ? "" : ", ",
                          field.key.substr(field.key.rfind('.') + 1), field.write(recipe));
    }
  }
  return fmt::format("model: {{{}}}", model) +
         (images.empty() ? "" : fmt::format("\ndata: {{image: {{{}}}}}", images));
}

}  // namespace hew::train
