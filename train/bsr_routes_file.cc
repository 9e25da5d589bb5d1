#include "train/bsr_routes_file.h"

#include <span>
#include <utility>

#include "core/cuda_device.h"
#include "io/atomic_file.h"

namespace hew::train {

std::optional<kernels::BsrRoutes> read_bsr_routes(const Recipe& recipe) {
  const std::string& path = recipe.run.bsr_routes;
  if (path.empty())
    return std::nullopt;
  const FileDescriptor file = open_to_read(path);
  std::string text(static_cast<std::size_t>(size_of_file(file, path)), '\0');
  read_at(file, path, 0, std::as_writable_bytes(std::span(text)));
  return kernels::BsrRoutes::from_text(text, path);
}

std::string bsr_routes_device(const Stream& stream) {
  return stream.device.is_cpu() ? to_string(stream.device) : cuda::kind(stream);
}

std::vector<std::string> use_bsr_routes(std::optional<kernels::BsrRoutes> routes,
                                        const Stream& stream) {
  if (!routes)
    return {};
  const std::string device = bsr_routes_device(stream);
  std::string measured_on = routes->device();
  if (stream.state->get<kernels::BsrSettings>(stream).use(std::move(*routes), device))
    return {};
  return {fmt::format("run.bsr_routes: measured on {}, unused on {}", measured_on, device)};
}

std::string bsr_routes(const Stream& stream) {
  const auto& routes = stream.state->get<kernels::BsrSettings>(stream).routes;
  return routes ? routes->to_text() : std::string();
}

}  // namespace hew::train
