#include "app/data_images_command.h"

#include <fmt/format.h>

#include <memory>

#include "app/number_checks.h"
#include "data/image_pack.h"

namespace hew {
namespace {

void pack(const ImagePackOptions& options) {
  const ImagePackResult result = write_image_pack(options);
  fmt::print("{}: {} images of {} classes, {} bytes of {}\n", options.output, result.images,
             result.classes, result.bytes, result.encoding);
}

}  // namespace

void add_images_command(CLI::App& data, const AppContext& context) {
  CLI::App* command =
      data.add_subcommand("images", "Pack labelled images into one file, checking each of them");
  const auto options = std::make_shared<ImagePackOptions>();
  command
      ->add_option("inputs,-i,--input", options->inputs,
                   "IDX files of images, CIFAR batches, packs, or folders with a folder of PNG and "
                   "JPEG files for each class")
      ->required();
  command->add_option("-o,--output", options->output, "The pack to write")->required();
  command
      ->add_option("--size", options->size,
                   "Make longer shorter sides so many pixels, and keep pixels instead of files")
      ->check(at_least(1));
  command->add_flag("--square", options->square,
                    "Make every shorter side --size pixels and cut out the middle square");
  command->add_option("--quality", options->quality, "Keep JPEG files of this quality, 1 to 100")
      ->check(at_least(1));
  command->add_option("--classes", options->classes_file,
                      "A text file with the names of the classes, one a line");
  command->add_flag("--force", options->force, "Overwrite an output that exists");
  command->callback([options, &context] {
    if (context.root())
      pack(*options);
  });
}

void print_image_info(const std::string& path) {
  const auto images = open_image_set(path);
  std::vector<std::int64_t> counts(images->classes().size());
  for (std::int64_t i = 0; i < images->size(); ++i) {
    ++counts[static_cast<std::size_t>(images->label(i))];
  }
  const auto shape = images->shape();
  fmt::print("file           {}\n", path);
  fmt::print("format         {}\n", images->format());
  fmt::print("images         {}\n", images->size());
  fmt::print("shape          {}\n",
             shape ? fmt::format("{} x {} x {}", shape->channels, shape->height, shape->width)
                   : "various");
  fmt::print("classes        {}\n", counts.size());
  for (std::size_t label = 0; label < counts.size(); ++label) {
    fmt::print("  {:<12} {}\n", images->classes()[label], counts[label]);
  }
}

}  // namespace hew
