#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "core/device.h"
#include "dist/comm.h"
#include "train/memory_estimate.h"
#include "train/recipe.h"

namespace hew::train {

/// All of the memory that a rank computes in: of its GPU, which it is taken to have for itself, or
/// of its machine, swap included.
struct DeviceMemory {
  std::int64_t bytes = 0;
  int ranks = 1;        // that share it
  std::string of = {};  // "this machine" or "cuda:0"
};

/// With the ranks of this host, where they share it. Nothing for a GPU that is not here. Collective
/// where `device` is the CPU.
std::optional<DeviceMemory> device_memory(Device device, dist::Communicator& comm);

/// Whether so many bytes for each rank are too many:
/// "the 80.0 GiB of cuda:0: 1 rank(s) of 91.2 GiB", or nothing where it fits.
std::optional<std::string> excess(double bytes_a_rank, const DeviceMemory& memory);

/// Throws ConfigError where a model that is trained from `step` on cannot fit, whatever else there
/// is: its dense starting weights, or its weights, gradients and moments.
void require_training_fits(const Recipe& recipe, int ranks, std::int64_t step,
                           const DeviceMemory& memory);
/// The same of a dense model's weights alone.
void require_weights_fit(const Recipe& recipe, const DeviceMemory& memory);

}  // namespace hew::train
