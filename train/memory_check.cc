#include "train/memory_check.h"

#include <algorithm>

#include "core/cuda_device.h"
#include "core/error.h"
#include "core/host_memory.h"
#include "dist/host_rank.h"
#include "train/model_setup.h"
#include "train/stored_model.h"

namespace hew::train {
namespace {

constexpr double kGiB = 1024.0 * 1024.0 * 1024.0;

double dense_bytes(const Recipe& recipe, const SparseModel& shapes) {
  double elements = 0;
  for (const ag::Parameter* parameter : shapes.model->parameters())
    elements += static_cast<double>(parameter->value().shape().numel());
  return elements * static_cast<double>(size_of(weight_dtype(recipe.train.precision)));
}

void require_fits(double bytes, const std::string& what, const DeviceMemory& memory) {
  const std::optional<std::string> excessive = excess(bytes, memory);
  require<ConfigError>(!excessive, "model: its {} alone exceed {}", what, excessive.value_or(""));
}

}  // namespace

std::optional<DeviceMemory> device_memory(Device device, dist::Communicator& comm) {
  if (device.is_cpu())
    return DeviceMemory{
        .bytes = host_memory_bytes(), .ranks = dist::ranks_on_host(comm), .of = "this machine"};
  if (device.index >= cuda::device_count())
    return std::nullopt;
  return DeviceMemory{.bytes = cuda::memory_bytes(device.index), .of = to_string(device)};
}

std::optional<std::string> excess(double bytes_a_rank, const DeviceMemory& memory) {
  if (bytes_a_rank * memory.ranks <= static_cast<double>(memory.bytes))
    return std::nullopt;
  return fmt::format("the {:.1f} GiB of {}: {} rank(s) of {:.1f} GiB",
                     static_cast<double>(memory.bytes) / kGiB, memory.of, memory.ranks,
                     bytes_a_rank / kGiB);
}

void require_training_fits(const Recipe& recipe, int ranks, std::int64_t step,
                           const DeviceMemory& memory) {
  const SparseModel shapes = build_model(recipe, make_cpu_stream(), Build::kShapesOnly);
  require_fits(dense_bytes(recipe, shapes), "dense starting weights", memory);
  const MemoryEstimate need = estimate_memory(
      recipe, ranks, stored_model(recipe, ranks, shapes, parameter_rows(shapes), step));
  require_fits(need.weights + need.gradients + need.moments, "weights, gradients and moments",
               memory);
}

void require_weights_fit(const Recipe& recipe, const DeviceMemory& memory) {
  const SparseModel shapes = build_model(recipe, make_cpu_stream(), Build::kShapesOnly);
  require_fits(dense_bytes(recipe, shapes), "dense weights", memory);
}

}  // namespace hew::train
