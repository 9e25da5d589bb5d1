#include "train/model_file.h"

#include <nlohmann/json.hpp>
#include <set>

#include "core/error.h"
#include "io/bsr_file.h"
#include "kernels/elementwise.h"
#include "train/bsr_record.h"
#include "train/json_line.h"

namespace hew::train {
namespace {

// The description: an attribute of the HDF5 file, an entry of the safetensors metadata.
constexpr const char* kDescription = "model";
constexpr const char* kDescriptionInMetadata = "hew.model";
// The tokenizer's bytes, beside the parameters; absent where there are none.
constexpr const char* kTokenizer = "tokenizer.blob";

nlohmann::ordered_json shape_description(const layers::ModelConfig& config) {
  nlohmann::ordered_json out{{"family", name_of(config.family)},
                             {"layers", config.layers},
                             {"heads", config.heads},
                             {"kv_heads", config.kv_heads},
                             {"width", config.width},
                             {"mlp_width", config.mlp_width},
                             {"context", config.context},
                             {"bias", config.bias},
                             {"activation", name_of(config.activation)},
                             {"norm_eps", config.norm_eps}};
  if (config.reads_images()) {
    out.update({{"image_size", config.image_size},
                {"channels", config.channels},
                {"patch_size", config.patch_size},
                {"classes", config.classes},
                {"pooling", name_of(config.pooling)}});
  } else {
    out.update({{"vocab", config.vocab},
                {"tied_embeddings", config.tied_embeddings},
                {"rope_theta", config.rope_theta}});
  }
  return out;
}

std::string description_of(const TrainedModel& trained) {
  nlohmann::ordered_json object{
      {"config", shape_description(trained.recipe.model)},
      {"steps", trained.progress.steps},
      {"flops", trained.progress.flops},
      {"tokenizer",
       {{"kind", trained.data.tokenizer.kind}, {"sha256", trained.data.tokenizer.sha256}}},
      {"recipe", to_yaml(trained.recipe)}};
  if (!trained.data.classes.empty())
    object["classes"] = trained.data.classes;
  return json_line(object);
}

BsrRecord record_of(const sparsity::LinearWeight& weight, DType dtype) {
  BsrRecord record = to_record(weight, weight.name());
  record.values = converted(record.values, dtype);
  return record;
}

ConstView bytes_of(const std::string& text) {
  return {text.data(), {std::ssize(text)}, DType::kUInt8, {}};
}

// Calls `sparse` with each weight under a mask and `dense` with each other parameter.
template <class Sparse, class Dense>
void for_each_parameter(layers::Model& model, const Sparse& sparse, const Dense& dense) {
  std::set<std::string> masked;
  for (const sparsity::LinearWeight* weight : model.linear_weights()) {
    if (weight->pattern() == nullptr)
      continue;
    sparse(*weight);
    masked.insert({weight->name(), weight->name() + ".scores"});
  }
  for (const ag::Parameter* parameter : model.parameters()) {
    if (!masked.contains(parameter->name))
      dense(*parameter);
  }
}

std::string description_text(const H5Reader& reader) {
  return reader.has_attribute("/", kDescription) ? reader.attribute_string("/", kDescription) : "";
}
std::string description_text(const SafetensorsReader& reader) {
  const auto found = reader.metadata().find(kDescriptionInMetadata);
  return found == reader.metadata().end() ? "" : found->second;
}

bool has_bsr(const H5Reader& reader, const std::string& name) {
  return is_bsr(reader, name);
}
bool has_bsr(const SafetensorsReader& reader, const std::string& name) {
  return reader.exists(name + ".crow_indices");
}

// Parameters in the file, without the tokenizer and under the names that the model has for them.
std::set<std::string> parameter_names(const H5Reader& reader) {
  const std::vector<std::string> entries = reader.list("/");
  std::set<std::string> names(entries.begin(), entries.end());
  names.erase(kTokenizer);
  return names;
}
std::set<std::string> parameter_names(const SafetensorsReader& reader) {
  const std::vector<std::string> entries = reader.names();
  std::set<std::string> names(entries.begin(), entries.end());
  names.erase(kTokenizer);
  for (const std::string& name : list_bsr(reader)) {
    for (const char* part : {".crow_indices", ".col_indices", ".values"}) names.erase(name + part);
    names.insert(name);
  }
  return names;
}

Tensor checked(const Tensor& values, const Tensor& like, const Shape& shape,
               const std::string& place) {
  require<DataError>(values.shape() == shape && is_floating(values.dtype()),
                     "{} is {} {}, the model has {}", place, name_of(values.dtype()),
                     to_string(values.shape()), to_string(shape));
  return converted(values, like.dtype());
}

template <class Reader>
Tensor read_dense(const Reader& reader, const std::string& name, const Tensor& like,
                  const Shape& shape) {
  require<DataError>(reader.exists(name), "{}: tensor '{}' is missing", reader.file(), name);
  return checked(reader.read(name, like.stream()), like, shape,
                 fmt::format("{}: tensor '{}'", reader.file(), name));
}

template <class Reader>
void fill_weight(const Reader& reader, sparsity::LinearWeight& weight) {
  const Tensor like = weight.parameter().value();
  const Shape shape{weight.out_features(), weight.in_features()};
  if (!has_bsr(reader, weight.name())) {
    return weight.restore(sparsity::Storage::kDense, nullptr,
                          read_dense(reader, weight.name(), like, shape), Tensor());
  }
  const BsrRecord record = read_bsr(reader, weight.name(), like.stream());
  require<DataError>(Shape({record.rows, record.cols}) == shape,
                     "{}: matrix '{}' is {} by {}, the model has {}", reader.file(), record.name,
                     record.rows, record.cols, to_string(shape));
  weight.restore(sparsity::Storage::kLiveBlocks, pattern_of(record, like.stream()),
                 converted(record.values, like.dtype()), Tensor());
}

template <class Reader>
void fill_model(const Reader& reader, layers::Model& model) {
  std::set<std::string> left = parameter_names(reader);
  std::set<std::string> filled;
  for (sparsity::LinearWeight* weight : model.linear_weights()) {
    fill_weight(reader, *weight);
    filled.insert(weight->name());
    left.erase(weight->name());
  }
  for (ag::Parameter* parameter : model.parameters()) {
    if (filled.contains(parameter->name))
      continue;
    const Tensor like = parameter->value();
    parameter->var = ag::Variable(read_dense(reader, parameter->name, like, like.shape()),
                                  /*requires_grad=*/true);
    left.erase(parameter->name);
  }
  require<DataError>(left.empty(), "{}: tensor '{}' has no place in the model", reader.file(),
                     left.empty() ? "" : *left.begin());
}

template <class Reader>
std::string tokenizer_blob(const Reader& reader) {
  if (!reader.exists(kTokenizer))
    return {};
  const Tensor bytes = reader.read(kTokenizer, make_cpu_stream());
  require<DataError>(bytes.dtype() == DType::kUInt8, "{}: '{}' is {}, expected uint8",
                     reader.file(), kTokenizer, name_of(bytes.dtype()));
  const auto values = bytes.to_vector<std::uint8_t>();
  return {values.begin(), values.end()};
}

template <class Reader>
TrainedModel describe(const Reader& reader) {
  const std::string text = description_text(reader);
  require<DataError>(!text.empty(), "{}: weights without a description of their model",
                     reader.file());
  try {
    const nlohmann::json object = nlohmann::json::parse(text);
    TrainedModel trained;
    trained.recipe = parse_recipe(object.at("recipe").get<std::string>(), reader.file());
    trained.progress.steps = object.at("steps").get<std::int64_t>();
    trained.progress.flops = object.at("flops").get<double>();
    trained.data.tokenizer = {.kind = object.at("tokenizer").at("kind").get<std::string>(),
                              .blob = tokenizer_blob(reader),
                              .sha256 = object.at("tokenizer").at("sha256").get<std::string>()};
    if (object.contains("classes"))
      trained.data.classes = object["classes"].get<std::vector<std::string>>();
    trained.file = reader.file();
    return trained;
  } catch (const nlohmann::json::exception& error) {
    throw DataError(
        fmt::format("{}: the description of the model: {}", reader.file(), error.what()));
  }
}

template <class Reader>
TrainedModel load(const Reader& reader, const Stream& stream) {
  TrainedModel trained = describe(reader);
  trained.parts = build_model(trained.recipe, stream, Build::kShapesOnly);
  fill_model(reader, *trained.parts.model);
  return trained;
}

}  // namespace

Tensor converted(const Tensor& values, DType dtype) {
  if (values.dtype() == dtype)
    return values;
  Tensor out = Tensor::empty(values.shape(), dtype, values.stream());
  kernels::cast(values, out, values.stream());
  return out;
}

void save_model_hdf5(const std::filesystem::path& path, const TrainedModel& trained, DType dtype) {
  H5Writer writer(path, kBsrKind, kBsrVersion);
  writer.attribute("/", kDescription, description_of(trained));
  if (!trained.data.tokenizer.blob.empty())
    writer.write(kTokenizer, bytes_of(trained.data.tokenizer.blob));
  for_each_parameter(
      *trained.parts.model,
      [&](const sparsity::LinearWeight& weight) { write_bsr(writer, record_of(weight, dtype)); },
      [&](const ag::Parameter& parameter) {
        writer.write(parameter.name, converted(parameter.value(), dtype));
      });
  writer.commit();
}

void save_model_safetensors(const std::filesystem::path& path, const TrainedModel& trained,
                            DType dtype) {
  SafetensorsMetadata metadata{{kDescriptionInMetadata, description_of(trained)}};
  std::vector<TensorSpec> tensors;
  const std::string& blob = trained.data.tokenizer.blob;
  if (!blob.empty())
    tensors.push_back({kTokenizer, DType::kUInt8, {std::ssize(blob)}});
  layers::Model& model = *trained.parts.model;
  for_each_parameter(
      model,
      [&](const sparsity::LinearWeight& weight) {
        declare_bsr(record_of(weight, dtype), tensors, metadata);
      },
      [&](const ag::Parameter& parameter) {
        tensors.push_back({parameter.name, dtype, parameter.value().shape()});
      });
  SafetensorsWriter writer(path, tensors, metadata);
  if (!blob.empty())
    writer.write(kTokenizer, bytes_of(blob));
  for_each_parameter(
      model,
      [&](const sparsity::LinearWeight& weight) { write_bsr(writer, record_of(weight, dtype)); },
      [&](const ag::Parameter& parameter) {
        writer.write(parameter.name, converted(parameter.value(), dtype));
      });
  writer.commit();
}

TrainedModel load_model_file(const H5Reader& reader, const Stream& stream) {
  return load(reader, stream);
}
TrainedModel load_model_file(const SafetensorsReader& reader, const Stream& stream) {
  return load(reader, stream);
}

bool is_model_file(const std::filesystem::path& path) {
  try {
    if (path.extension() == ".safetensors")
      return !description_text(SafetensorsReader(path)).empty();
    return H5Reader(path).kind() == kBsrKind;
  } catch (const DataError&) {
    return false;
  }
}

}  // namespace hew::train
