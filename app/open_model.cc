#include "app/open_model.h"

#include <fmt/format.h>

namespace hew {

train::TrainedModel open_model(const std::string& path, const AppContext& context,
                               const Stream& stream) {
  train::TrainedModel trained = train::load_trained_model(path, stream);
  for (const std::string& warning : trained.warnings) {
    if (context.root())
      fmt::print(stderr, "warning: {}\n", warning);
  }
  return trained;
}

}  // namespace hew
