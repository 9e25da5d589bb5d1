#include "train/yaml_document.h"

#include <yaml-cpp/eventhandler.h>

#include <sstream>

#include "core/error.h"

namespace hew::train {
namespace {

class IgnoringHandler final : public YAML::EventHandler {
 public:
  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
  void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t,
                const std::string&) override {}
  void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {}
  void OnMapEnd() override {}
};

// YAML::Load drops all documents but the first, and YAML::LoadAll finds them without end behind a
// stray comma.
bool is_one_document(const std::string& text) {
  std::istringstream stream(text);
  YAML::Parser parser(stream);
  IgnoringHandler handler;
  return parser.HandleNextDocument(handler) && !parser.HandleNextDocument(handler);
}

}  // namespace

YAML::Node load_mapping(std::string_view text, const std::string& source_name) {
  const std::string copy(text);
  try {
    const YAML::Node node = YAML::Load(copy);
    require<ConfigError>(node.IsMap() && is_one_document(copy),
                         "{}:1: expected one YAML mapping with the sections of a recipe",
                         source_name);
    return node;
  } catch (const YAML::Exception& error) {
    throw ConfigError(
        fmt::format("{}:{}: not YAML: {}", source_name, error.mark.line + 1, error.msg));
  }
}

}  // namespace hew::train
