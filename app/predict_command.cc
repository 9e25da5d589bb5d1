#include "app/predict_command.h"

#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "app/number_checks.h"
#include "app/open_model.h"
#include "data/image_codec.h"
#include "train/json_line.h"
#include "train/prediction.h"

namespace hew {
namespace {

struct PredictArguments {
  std::string run;
  std::vector<std::string> images;
  std::int64_t top = 5;
  std::int64_t batch = 16;
  std::string device = "cpu";
  bool json = false;
};

void print_json(const std::string& path, const std::vector<train::ClassProbability>& classes) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const train::ClassProbability& c : classes) {
    list.push_back({{"class", c.label}, {"name", c.name}, {"probability", c.probability}});
  }
  const nlohmann::ordered_json object{{"image", path}, {"classes", list}};
  fmt::print("{}\n", train::json_line(object));
}

void print_text(const std::string& path, const std::vector<train::ClassProbability>& classes) {
  fmt::print("{}\n", path);
  for (const train::ClassProbability& c : classes) {
    fmt::print("  {:>6.2f} %  {}\n", 100 * c.probability, c.name);
  }
}

void run_predict(const PredictArguments& arguments, const AppContext& context) {
  if (!context.root())
    return;
  const Stream stream = make_stream(parse_device(arguments.device));
  std::vector<DecodedImage> images;
  images.reserve(arguments.images.size());
  for (const std::string& path : arguments.images) images.push_back(read_image_file(path));
  const train::TrainedModel trained = open_model(arguments.run, context, stream);
  const auto predictions = train::predict(trained, images, arguments.top, arguments.batch, stream);
  for (std::size_t i = 0; i < predictions.size(); ++i) {
    (arguments.json ? print_json : print_text)(arguments.images[i], predictions[i]);
  }
}

}  // namespace

void add_predict_command(CLI::App& app, const AppContext& context) {
  CLI::App* command = app.add_subcommand("predict", "Say what a trained model sees in images");
  auto arguments = std::make_shared<PredictArguments>();
  command->add_option("run", arguments->run, "Run directory, checkpoint or exported model")
      ->required();
  command->add_option("images", arguments->images, "PNG or JPEG files")->required();
  command->add_option("--top", arguments->top, "So many of the most probable classes")
      ->check(at_least(1))
      ->capture_default_str();
  command->add_option("--batch", arguments->batch, "Images computed at a time")
      ->check(at_least(1))
      ->capture_default_str();
  command->add_option("--device", arguments->device, "cpu, cuda or cuda:N")->capture_default_str();
  command->add_flag("--json", arguments->json, "Print one JSON object an image");
  command->callback([arguments, &context] { run_predict(*arguments, context); });
}

}  // namespace hew
