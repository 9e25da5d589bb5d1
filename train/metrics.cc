#include "train/metrics.h"

#include <poll.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <system_error>

#include "core/error.h"

namespace hew::train {
namespace {

std::string duration(double seconds) {
  constexpr double kHour = 3600;
  if (seconds >= 1e6 * kHour)
    return fmt::format("{:.0e} h", seconds / kHour);
  const auto total = static_cast<std::int64_t>(std::llround(std::max(seconds, 0.0)));
  if (total >= 3600) {
    return fmt::format("{}:{:02}:{:02}", total / 3600, total / 60 % 60, total % 60);
  }
  return fmt::format("{}:{:02}", total / 60, total % 60);
}

std::string rate(double per_second) {
  if (per_second >= 1e6)
    return fmt::format("{:.2f}M", per_second / 1e6);
  if (per_second >= 1e3)
    return fmt::format("{:.1f}k", per_second / 1e3);
  return fmt::format("{:.0f}", per_second);
}

// Open MPI hands ranks a terminal of its own even where its output goes to a file, so whoever
// started this process must have one too.
bool on_terminal() {
  if (isatty(STDOUT_FILENO) != 1)
    return false;
  std::error_code unknown;
  const auto parent = std::filesystem::read_symlink(
      fmt::format("/proc/{}/fd/{}", getppid(), STDOUT_FILENO), unknown);
  return unknown || parent.string().starts_with("/dev/");
}

// Bytes up to the last line's end; 0 without a file.
std::int64_t end_of_last_line(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::int64_t end = 0;
  for (std::string line; std::getline(in, line) && !in.eof();)
    end += static_cast<std::int64_t>(line.size()) + 1;
  return end;
}

}  // namespace

MetricsFile::MetricsFile(const std::filesystem::path& path, std::int64_t keep_bytes) : path_(path) {
  std::error_code code;
  const auto there = std::filesystem::exists(path)
                         ? static_cast<std::int64_t>(std::filesystem::file_size(path, code))
                         : std::int64_t{0};
  bytes_ = there <= keep_bytes ? end_of_last_line(path) : keep_bytes;
  if (there > bytes_) {
    std::filesystem::resize_file(path, static_cast<std::uintmax_t>(bytes_), code);
  }
  require<DataError>(!code, "{}: {}", path.string(), code.message());
  out_.open(path, std::ios::app);
  require<DataError>(out_.good(), "{}: cannot be opened for writing", path.string());
}

void MetricsFile::write(const nlohmann::ordered_json& object) {
  const std::string line = object.dump() + "\n";
  out_ << line << std::flush;
  require<DataError>(out_.good(), "{}: cannot be written (disk full?)", path_.string());
  bytes_ += static_cast<std::int64_t>(line.size());
}

std::string to_string(const ProgressLine& line) {
  return fmt::format("step {}/{}  loss {:.4f}  {} {}/s  lr {:.2e}  sparsity {:.1f} %  {} left",
                     line.step, line.steps, line.loss, rate(line.rate), line.unit,
                     line.learning_rate, 100 * line.sparsity, duration(line.seconds_left));
}

Console::Console(const std::filesystem::path& log)
    : silent_(false), terminal_(on_terminal()), log_(log, std::ios::app) {
  require<DataError>(log_.good(), "{}: cannot be opened for writing", log.string());
}

void Console::progress(const ProgressLine& line, bool milestone) {
  if (silent_)
    return;
  const std::string text = to_string(line);
  if (terminal_) {
    show("\r\x1b[K" + text);
    live_ = true;
  } else if (milestone) {
    show(text + "\n");
  }
  if (milestone)
    log_ << text << std::endl;
}

void Console::say(const std::string& text) {
  if (silent_)
    return;
  end_live_line();
  show(text + "\n");
  log_ << text << std::endl;
}

void Console::end_live_line() {
  if (live_)
    show("\n");
  live_ = false;
}

void Console::show(std::string_view text) {
  constexpr int kPatience = 1000;  // milliseconds
  pollfd out{.fd = STDOUT_FILENO, .events = POLLOUT, .revents = 0};
  heard_ = ::poll(&out, 1, heard_ ? kPatience : 0) != 0;
  if (!heard_)
    return;
  std::fwrite(text.data(), 1, text.size(), stdout);  // a closed pipe: the log file has the line
  std::fflush(stdout);
}

}  // namespace hew::train
