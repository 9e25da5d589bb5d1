#include "train/checkpoint.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "core/error.h"
#include "kernels/product_settings.h"
#include "train/bsr_record.h"

namespace hew::train {
namespace {

constexpr const char* kKind = "hew-checkpoint";
constexpr int kVersion = 1;
constexpr const char* kProductChoices = "product_choices";
constexpr const char* kBsrRoutes = "bsr_routes";
constexpr const char* kDataDigest = "data_digest";
constexpr const char* kClassNames = "class_names";

std::string weight_path(const std::string& name) {
  return "weights/" + name;
}
std::string mask_path(const std::string& name) {
  return "masks/" + name;
}
std::string average_path(const std::string& name) {
  return "score_averages/" + name;
}

constexpr const char* kAverages = "averages";

std::int64_t as_signed(std::uint64_t bits) {
  return static_cast<std::int64_t>(bits);
}

void write_weight(H5Writer& writer, const sparsity::LinearWeight& weight) {
  const std::string& name = weight.name();
  if (weight.storage() == sparsity::Storage::kLiveBlocks) {
    return write_bsr(writer, to_record(weight, weight_path(name)));
  }
  writer.write(weight_path(name), weight.parameter().value());
  if (weight.storage() == sparsity::Storage::kMaster) {
    const sparsity::BlockGrid& grid = weight.pattern()->grid();
    const sparsity::MaskBytes mask = weight.pattern()->mask();
    writer.write(mask_path(name),
                 ConstView{mask.data(), {grid.block_rows(), grid.block_cols()}, DType::kUInt8, {}});
    writer.attribute(mask_path(name), "block", grid.block);
  }
}

void write_progress(H5Writer& writer, const Progress& progress) {
  writer.attribute("/progress", "steps", progress.steps);
  writer.attribute("/progress", "samples", progress.samples);
  writer.attribute("/progress", "rng_seed", as_signed(progress.rng_seed));
  writer.attribute("/progress", "rng_step", as_signed(progress.rng_step));
  writer.attribute("/progress", "metrics_bytes", progress.metrics_bytes);
  writer.attribute("/progress", "flops", progress.flops);
}

void write_text(H5Writer& writer, const std::string& name, const std::string& text) {
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(text.data());
  writer.write(name, std::span<const std::uint8_t>(bytes, text.size()));
}

void write_tokenizer(H5Writer& writer, const TokenizerRecord& tokenizer) {
  writer.attribute("/tokenizer", "kind", tokenizer.kind);
  writer.attribute("/tokenizer", "sha256", tokenizer.sha256);
  write_text(writer, "tokenizer/blob", tokenizer.blob);
}

}  // namespace

void save_checkpoint(const std::filesystem::path& path, const CheckpointSource& source) {
  H5Writer writer(path, kKind, kVersion);
  writer.attribute("/", "recipe", to_yaml(source.recipe));
  writer.attribute("/", "vocab", source.model.config().vocab);
  if (source.model.config().reads_images()) {
    writer.attribute("/", "classes", source.model.config().classes);
    write_text(writer, kClassNames, nlohmann::json(source.data.classes).dump());
  }
  write_progress(writer, source.progress);
  write_tokenizer(writer, source.data.tokenizer);
  write_text(writer, kDataDigest, source.data.digest);
  if (!source.product_choices.empty())
    write_text(writer, kProductChoices, source.product_choices);
  if (!source.bsr_routes.empty())
    write_text(writer, kBsrRoutes, source.bsr_routes);
  std::set<std::string> written;
  for (const sparsity::LinearWeight* weight : source.model.linear_weights()) {
    write_weight(writer, *weight);
    written.insert(weight->name());
  }
  for (const ag::Parameter* parameter : source.model.parameters()) {
    if (!written.contains(parameter->name)) {
      writer.write(weight_path(parameter->name), parameter->value());
    }
  }
  for (const auto& [name, average] : source.sparsifier.score_averages()) {
    writer.write(average_path(name), average);
  }
  for (const auto& [name, tensor] : source.optimizer) {
    writer.write("optimizer/" + name, tensor);
  }
  for (const auto& [name, tensor] : source.average) {
    writer.write(fmt::format("{}/{}", kAverages, name), tensor);
  }
  writer.commit();
}

Checkpoint::Checkpoint(const std::filesystem::path& path) : Checkpoint(H5Reader(path)) {}

Checkpoint::Checkpoint(H5Reader reader) : reader_(std::move(reader)) {
  reader_.require_kind(kKind, kVersion);
}

Recipe Checkpoint::recipe() const {
  Recipe recipe = parse_recipe(reader_.attribute_string("/", "recipe"), file() + ":recipe");
  recipe.model.vocab = reader_.attribute_int("/", "vocab");
  if (recipe.model.reads_images())
    recipe.model.classes = reader_.attribute_int("/", "classes");
  return recipe;
}

Progress Checkpoint::progress() const {
  auto number = [this](const char* name) { return reader_.attribute_int("/progress", name); };
  return {.steps = number("steps"),
          .samples = number("samples"),
          .rng_seed = static_cast<std::uint64_t>(number("rng_seed")),
          .rng_step = static_cast<std::uint64_t>(number("rng_step")),
          .metrics_bytes = number("metrics_bytes"),
          .flops = reader_.attribute_double("/progress", "flops")};
}

DataRecord Checkpoint::data() const {
  const auto bytes = reader_.read_vector<std::uint8_t>("tokenizer/blob");
  DataRecord data{.tokenizer = {.kind = reader_.attribute_string("/tokenizer", "kind"),
                                .blob = std::string(bytes.begin(), bytes.end()),
                                .sha256 = reader_.attribute_string("/tokenizer", "sha256")},
                  .digest = text(kDataDigest)};
  const std::string classes = text(kClassNames);
  if (classes.empty())
    return data;
  try {
    data.classes = nlohmann::json::parse(classes).get<std::vector<std::string>>();
  } catch (const nlohmann::json::exception& error) {
    throw DataError(fmt::format("{}: {}: {}", file(), kClassNames, error.what()));
  }
  return data;
}

std::string Checkpoint::text(const char* name) const {
  if (!reader_.exists(name))
    return {};
  const auto bytes = reader_.read_vector<std::uint8_t>(name);
  return {bytes.begin(), bytes.end()};
}

std::string Checkpoint::product_choices() const {
  return text(kProductChoices);
}

std::optional<kernels::BsrRoutes> Checkpoint::bsr_routes() const {
  const std::string routes = text(kBsrRoutes);
  if (routes.empty())
    return std::nullopt;
  return kernels::BsrRoutes::from_text(routes, fmt::format("{}:{}", file(), kBsrRoutes));
}

void Checkpoint::restore_product_choices(const Stream& stream) const {
  if (stream.device.is_cpu())
    return;
  try {
    stream.state->get<kernels::ProductSettings>(stream).import_choices(product_choices());
  } catch (const DataError& error) {
    throw DataError(fmt::format("{}: {}", file(), error.what()));
  }
}

Tensor Checkpoint::read_like(const std::string& name, const Shape& shape,
                             const Tensor& like) const {
  require<DataError>(reader_.exists(name), "{}: {} is missing: the recipe does not fit this file",
                     file(), name);
  Tensor t = reader_.read(name, like.stream());
  require<DataError>(t.shape() == shape, "{}: {} has shape {}, the recipe makes it {}", file(),
                     name, to_string(t.shape()), to_string(shape));
  require<DataError>(t.dtype() == like.dtype(), "{}: {} is {}, the recipe makes it {}", file(),
                     name, name_of(t.dtype()), name_of(like.dtype()));
  return t;
}

void Checkpoint::restore_weight(sparsity::LinearWeight& weight, const Stream& stream) const {
  const std::string& name = weight.name();
  const std::string path = weight_path(name);
  const Tensor& like = weight.parameter().value();
  const Shape shape{weight.out_features(), weight.in_features()};
  require<DataError>(reader_.exists(path), "{}: {} is missing: the recipe does not fit this file",
                     file(), path);
  if (!reader_.is_dataset(path)) {
    const BsrRecord bsr = read_bsr(reader_, path, stream);
    require<DataError>(Shape({bsr.rows, bsr.cols}) == shape,
                       "{}: {} is {} by {}, the recipe makes it {}", file(), path, bsr.rows,
                       bsr.cols, to_string(shape));
    require<DataError>(bsr.values.dtype() == like.dtype(), "{}: {} is {}, the recipe makes it {}",
                       file(), path, name_of(bsr.values.dtype()), name_of(like.dtype()));
    return weight.restore(sparsity::Storage::kLiveBlocks, pattern_of(bsr, stream), bsr.values,
                          Tensor());
  }
  const Tensor values = read_like(path, shape, like);
  if (!reader_.exists(mask_path(name))) {
    return weight.restore(sparsity::Storage::kDense, nullptr, values, Tensor());
  }
  const sparsity::BlockGrid grid{
      .rows = shape[0], .cols = shape[1], .block = reader_.attribute_int(mask_path(name), "block")};
  Tensor scores;
  if (reader_.exists(path + ".scores")) {
    scores = read_like(path + ".scores", {grid.block_rows(), grid.block_cols()}, values);
  }
  const auto mask = reader_.read_vector<std::uint8_t>(mask_path(name));
  weight.restore(sparsity::Storage::kMaster,
                 std::make_shared<const sparsity::BsrPattern>(grid, mask, stream), values, scores);
}

void Checkpoint::restore_model(layers::Model& model, sparsity::Sparsifier& sparsifier) const {
  std::set<std::string> done;
  for (sparsity::LinearWeight* weight : model.linear_weights()) {
    restore_weight(*weight, weight->parameter().var.stream());
    done.insert(weight->name());
    done.insert(weight->name() + ".scores");
  }
  for (ag::Parameter* parameter : model.parameters()) {
    if (done.contains(parameter->name))
      continue;
    const Tensor& value = parameter->value();
    parameter->var = ag::Variable(read_like(weight_path(parameter->name), value.shape(), value),
                                  /*requires_grad=*/true);
    done.insert(parameter->name);
  }
  for (const std::string& name : reader_.list("weights")) {
    require<DataError>(done.contains(name), "{}: weights/{} has no place in the recipe's model",
                       file(), name);
  }
  restore_averages(sparsifier);
}

void Checkpoint::restore_averages(sparsity::Sparsifier& sparsifier) const {
  sparsifier.score_averages().clear();
  for (const sparsity::Sparsifier::Target& target : sparsifier.targets()) {
    if (sparsifier.rules()[target.rule].score != sparsity::Score::kEma)
      continue;
    const std::string path = average_path(target.weight->name());
    std::vector<double> averages = reader_.read_vector<double>(path);
    require<DataError>(std::ssize(averages) == target.weight->pattern()->nnzb(),
                       "{}: {} has {} numbers for {} live blocks", file(), path, averages.size(),
                       target.weight->pattern()->nnzb());
    sparsifier.score_averages()[target.weight->name()] = std::move(averages);
  }
}

// On the host: each rank may keep a slice of it only.
optim::NamedTensors Checkpoint::optimizer_state(const std::vector<std::string>& names) const {
  optim::NamedTensors state;
  for (const std::string& name : names) {
    require<DataError>(reader_.exists("optimizer/" + name), "{}: optimizer/{} is missing", file(),
                       name);
    state.emplace_back(name, reader_.read("optimizer/" + name, make_cpu_stream()));
  }
  return state;
}

void Checkpoint::restore_optimizer(optim::Optimizer& optimizer) const {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : optimizer.state()) names.push_back(name);
  const optim::NamedTensors state = optimizer_state(names);
  try {
    optimizer.load(state);
  } catch (const DataError& error) {
    throw DataError(fmt::format("{}: {}", file(), error.what()));
  }
}

void Checkpoint::restore_average(optim::WeightAverage& average) const {
  require<DataError>(reader_.exists(kAverages), "{}: {} is missing: the recipe has train.ema",
                     file(), kAverages);
  optim::NamedTensors state;
  for (const std::string& name : reader_.list(kAverages)) {
    state.emplace_back(name,
                       reader_.read(fmt::format("{}/{}", kAverages, name), make_cpu_stream()));
  }
  try {
    average.load(state);
  } catch (const DataError& error) {
    throw DataError(fmt::format("{}: {}", file(), error.what()));
  }
}

void Checkpoint::restore_optimizer(RankOptimizer& optimizer) const {
  const optim::NamedTensors state = optimizer_state(optimizer.state_names());
  try {
    optimizer.load(state);
  } catch (const DataError& error) {
    throw DataError(fmt::format("{}: {}", file(), error.what()));
  }
}

}  // namespace hew::train
