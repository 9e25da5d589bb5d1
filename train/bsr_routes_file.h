#pragma once

#include <optional>
#include <string>
#include <vector>

#include "kernels/bsr_routes.h"
#include "train/recipe.h"

namespace hew::train {

/// The table that run.bsr_routes names; nothing where the recipe names none. Throws DataError with
/// file and line.
std::optional<kernels::BsrRoutes> read_bsr_routes(const Recipe& recipe);

/// What measured times hold for: the kind of the stream's device.
std::string bsr_routes_device(const Stream& stream);

/// Lets the stream's block-sparse products go by a table. Returns what there is to say: that it was
/// measured elsewhere and stays unused.
std::vector<std::string> use_bsr_routes(std::optional<kernels::BsrRoutes> routes,
                                        const Stream& stream);

/// The text of the stream's table, used or not; empty where it has none.
std::string bsr_routes(const Stream& stream);

}  // namespace hew::train
