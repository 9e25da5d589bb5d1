#include "app/inspect_command.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>

#include "app/open_model.h"
#include "core/error.h"
#include "data/image_codec.h"
#include "io/atomic_file.h"
#include "train/inspection.h"
#include "train/json_line.h"
#include "train/mask_picture.h"

namespace hew {
namespace {

struct InspectArguments {
  std::string run;
  std::string mask;
  std::string png;
  bool norms = false;
  bool json = false;
};

struct Totals {
  train::ParameterCount parameters;
  std::int64_t element_bytes = 0;
  std::int64_t file_bytes = 0;
};

Totals totals_of(const train::TrainedModel& trained) {
  return {.parameters = train::count_parameters(*trained.parts.model),
          .element_bytes = size_of(train::weight_dtype(trained.recipe.train.precision)),
          .file_bytes = static_cast<std::int64_t>(std::filesystem::file_size(trained.file))};
}

void print_mask(const train::TrainedModel& trained, const std::string& name) {
  for (const sparsity::LinearWeight* weight : trained.parts.model->linear_weights()) {
    if (weight->name() != name)
      continue;
    require<ConfigError>(weight->pattern() != nullptr, "--mask {}: this weight is dense", name);
    fmt::print("{}", train::draw_mask(*weight->pattern()));
    return;
  }
  throw ConfigError(
      fmt::format("--mask {}: {} has no linear weight of this name", name, trained.file));
}

// An earlier picture is replaced, nothing else.
void require_picture_or_nothing(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path))
    return;
  constexpr std::array<std::uint8_t, 4> kPng{0x89, 'P', 'N', 'G'};
  const std::vector<std::uint8_t> bytes = read_all(path);
  require<ConfigError>(
      bytes.size() >= kPng.size() && std::equal(kPng.begin(), kPng.end(), bytes.begin()),
      "--png {}: is there, is no PNG and stays as it is", path.string());
}

// The picture has no letters: what is where in it is told here.
void write_picture(const train::TrainedModel& trained, const InspectArguments& arguments) {
  require_picture_or_nothing(arguments.png);
  const train::MaskPicture picture = train::draw_masks(
      *trained.parts.model, arguments.norms ? train::MaskColors::kNorms : train::MaskColors::kLive);
  const std::vector<std::uint8_t> bytes = encode_png(picture.image);
  AtomicFile file(arguments.png);
  file.write(std::as_bytes(std::span(bytes)));
  file.commit();
  fmt::print("{}: {} x {} pixels, a block is {} x {}; {}\n", arguments.png, picture.image.width,
             picture.image.height, picture.block_pixels, picture.block_pixels,
             arguments.norms ? "live blocks from pale to dark by their norm, dead ones grey"
                             : "live blocks dark, dead ones grey");
  fmt::print("{:>6}{:>6}{:>7}{:>7}{:>16}  {}\n", "x", "y", "width", "height", "live/blocks",
             "weight");
  for (const train::MaskPanel& panel : picture.panels) {
    fmt::print("{:>6}{:>6}{:>7}{:>7}{:>16}  {}\n", panel.x, panel.y, panel.width, panel.height,
               fmt::format("{}/{}", panel.live_blocks, panel.blocks), panel.name);
  }
}

nlohmann::ordered_json json_of(const train::WeightInspection& w) {
  return {{"name", w.name},
          {"shape", {w.out_features, w.in_features}},
          {"storage", name_of(w.storage)},
          {"block", w.block},
          {"live_blocks", w.live_blocks},
          {"blocks", w.blocks},
          {"sparsity", w.sparsity},
          {"row_blocks_min", w.row_blocks_min},
          {"row_blocks_max", w.row_blocks_max},
          {"norm", w.norm}};
}

void print_json(const train::TrainedModel& trained) {
  const Totals totals = totals_of(trained);
  nlohmann::ordered_json weights = nlohmann::ordered_json::array();
  for (const train::WeightInspection& w : train::inspect_weights(*trained.parts.model)) {
    weights.push_back(json_of(w));
  }
  nlohmann::ordered_json object{
      {"file", trained.file},
      {"file_bytes", totals.file_bytes},
      {"family", name_of(trained.recipe.model.family)},
      {"step", trained.progress.steps},
      {"flops", trained.progress.flops},
      {"tokenizer",
       {{"kind", trained.data.tokenizer.kind}, {"sha256", trained.data.tokenizer.sha256}}},
      {"parameters_stored", totals.parameters.stored},
      {"parameters_dense", totals.parameters.dense},
      {"weights", weights}};
  if (trained.recipe.model.reads_images()) {
    object["classes"] = trained.data.classes;
  } else {
    object["vocab"] = trained.recipe.model.vocab;
  }
  fmt::print("{}\n", train::json_line(object));
}

void print_weight(const train::WeightInspection& w, std::size_t name_width) {
  const std::string shape = fmt::format("{} x {}", w.out_features, w.in_features);
  fmt::print("{:<{}}  {:>13}  {:<7}", w.name, name_width, shape, name_of(w.storage));
  if (w.block == 0) {
    fmt::print("{:>6}{:>16}{:>10}{:>12}", "-", "-", "-", "-");
  } else {
    fmt::print("{:>6}{:>16}{:>9.2f}%{:>12}", w.block, fmt::format("{}/{}", w.live_blocks, w.blocks),
               100 * w.sparsity, fmt::format("{}-{}", w.row_blocks_min, w.row_blocks_max));
  }
  fmt::print("{:>11.4g}\n", w.norm);
}

std::string describe(const layers::ModelConfig& m) {
  const std::string body =
      fmt::format("{}, {} layers, width {}", name_of(m.family), m.layers, m.width);
  if (!m.reads_images())
    return fmt::format("{}, context {}, vocabulary {}", body, m.context, m.vocab);
  return fmt::format("{}, images of {} x {} x {}, patches of {}, {} classes", body, m.channels,
                     m.image_size, m.image_size, m.patch_size, m.classes);
}

void print_table(const train::TrainedModel& trained) {
  const std::vector<train::WeightInspection> weights = train::inspect_weights(*trained.parts.model);
  std::size_t name_width = 0;
  for (const train::WeightInspection& w : weights) name_width = std::max(name_width, w.name.size());
  fmt::print("{:<{}}  {:>13}  {:<7}{:>6}{:>16}{:>10}{:>12}{:>11}\n", "weight", name_width,
             "out x in", "storage", "block", "live/blocks", "sparsity", "live a row", "norm");
  for (const train::WeightInspection& w : weights) print_weight(w, name_width);
  const Totals totals = totals_of(trained);
  const train::TokenizerRecord& tokenizer = trained.data.tokenizer;
  fmt::print("\nfile        {}, {} bytes\n", trained.file, totals.file_bytes);
  fmt::print("model       {}\n", describe(trained.recipe.model));
  fmt::print("step        {}\n", trained.progress.steps);
  fmt::print("FLOPs       {:.4g}\n", trained.progress.flops);
  if (trained.recipe.model.reads_images()) {
    fmt::print("classes     {}\n", fmt::join(trained.data.classes, ", "));
  } else {
    fmt::print("tokenizer   {}\n",
               tokenizer.kind.empty() ? "not known"
                                      : fmt::format("{} {:.12}", tokenizer.kind, tokenizer.sha256));
  }
  fmt::print("parameters  {} held, {} bytes; {} with every block, {} bytes\n",
             totals.parameters.stored, totals.parameters.stored * totals.element_bytes,
             totals.parameters.dense, totals.parameters.dense * totals.element_bytes);
}

void run_inspect(const InspectArguments& arguments, const AppContext& context) {
  if (!context.root())
    return;
  const train::TrainedModel trained = open_model(arguments.run, context, make_cpu_stream());
  if (!arguments.mask.empty()) {
    print_mask(trained, arguments.mask);
  } else if (!arguments.png.empty()) {
    write_picture(trained, arguments);
  } else if (arguments.json) {
    print_json(trained);
  } else {
    print_table(trained);
  }
}

}  // namespace

void add_inspect_command(CLI::App& app, const AppContext& context) {
  CLI::App* command = app.add_subcommand("inspect", "Show what a trained model holds");
  auto arguments = std::make_shared<InspectArguments>();
  command->add_option("run", arguments->run, "Run directory, checkpoint or exported model")
      ->required();
  CLI::Option* json = command->add_flag("--json", arguments->json, "Print one JSON object");
  CLI::Option* mask =
      command
          ->add_option("--mask", arguments->mask,
                       "Draw the mask of this weight: a line a block row, # live and · dead")
          ->excludes(json);
  CLI::Option* png = command
                         ->add_option("--png", arguments->png,
                                      "Write a picture of all masks, and print where each is in it")
                         ->excludes(json)
                         ->excludes(mask);
  command->add_flag("--norms", arguments->norms, "Colour the picture's live blocks by their norm")
      ->needs(png);
  command->callback([arguments, &context] { run_inspect(*arguments, context); });
}

}  // namespace hew
