#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "app/context.h"

namespace hew {

/// Adds `images` to the command `data`.
void add_images_command(CLI::App& data, const AppContext& context);
/// What `hew data info` says of a set of images.
void print_image_info(const std::string& path);

}  // namespace hew
