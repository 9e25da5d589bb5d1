#include "core/profiler.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

namespace hew {

void Profiler::begin(std::string_view op, const Stream& stream) {
  if (depth_++ > 0)
    return;
  Span& span = spans_.emplace_back();
  span.op = op;
  if (stream.device.is_cpu()) {
    span.begin = Clock::now();
    return;
  }
  span.begin_mark = std::make_unique<cuda::Mark>();
  span.end_mark = std::make_unique<cuda::Mark>();
  span.begin_mark->record(stream);
}

void Profiler::end(const Stream& stream) {
  if (--depth_ > 0)
    return;
  Span& span = spans_.back();
  if (stream.device.is_cpu()) {
    span.end = Clock::now();
  } else {
    span.end_mark->record(stream);
  }
}

std::vector<Profiler::Row> Profiler::rows(const Stream& stream) {
  synchronize(stream);
  std::map<std::string, Row> by_op;
  for (const Span& span : spans_) {
    Row& row = by_op[span.op];
    row.op = span.op;
    row.calls += 1;
    row.seconds += span.begin_mark == nullptr
                       ? std::chrono::duration<double>(span.end - span.begin).count()
                       : span.end_mark->seconds_since(*span.begin_mark);
  }
  std::vector<Row> out;
  out.reserve(by_op.size());
  for (auto& [op, row] : by_op) out.push_back(std::move(row));
  std::stable_sort(out.begin(), out.end(),
                   [](const Row& a, const Row& b) { return a.seconds > b.seconds; });
  return out;
}

std::string to_table(const std::vector<Profiler::Row>& rows, double steps) {
  double total = 0;
  for (const Profiler::Row& row : rows) total += row.seconds;
  std::string out =
      fmt::format("{:<28} {:>10} {:>12} {:>7}\n", "operation", "calls/step", "ms/step", "share");
  for (const Profiler::Row& row : rows) {
    out += fmt::format("{:<28} {:>10.1f} {:>12.3f} {:>6.1f}%\n", row.op,
                       static_cast<double>(row.calls) / steps, 1e3 * row.seconds / steps,
                       total > 0 ? 100 * row.seconds / total : 0);
  }
  out += fmt::format("{:<28} {:>10} {:>12.3f}\n", "all operations", "", 1e3 * total / steps);
  return out;
}

}  // namespace hew
