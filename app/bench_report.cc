#include "app/bench_report.h"

#include <span>
#include <utility>

#include "app/bench_options.h"

namespace hew {

BenchReport::BenchReport(Print print, bool json, const std::string& output)
    : print_(std::move(print)), json_(json) {
  if (output.empty())
    return;
  require_bench_output(output);
  file_.emplace(output);
}

void BenchReport::head(const std::string& line) const {
  if (!json_)
    print_(line);
}

void BenchReport::row(const nlohmann::ordered_json& object, const std::string& line) {
  const std::string text = object.dump();
  if (file_) {
    const std::string ended = text + "\n";
    file_->write(std::as_bytes(std::span(ended)));
  }
  print_(json_ ? text : line);
}

void BenchReport::finish() {
  if (file_)
    file_->commit();
}

}  // namespace hew
