#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace hew::train {

/// metrics.jsonl: one JSON object a line, flushed line by line. Only rank 0 has one.
class MetricsFile {
 public:
  /// Opens for appending after cutting the file to `keep_bytes`: what a run wrote after the
  /// checkpoint that it resumes from is written again. Of a file that is shorter, a last line that
  /// was cut goes too. Throws DataError naming the file.
  MetricsFile(const std::filesystem::path& path, std::int64_t keep_bytes);

  void write(const nlohmann::ordered_json& object);
  std::int64_t bytes() const { return bytes_; }

 private:
  std::filesystem::path path_;
  std::ofstream out_;
  std::int64_t bytes_ = 0;
};

/// What a progress line shows.
struct ProgressLine {
  std::int64_t step = 0;  // completed
  std::int64_t steps = 0;
  double loss = 0;  // nats a token or image
  double rate = 0;  // units a second
  std::string_view unit = "tokens";
  double learning_rate = 0;
  double sparsity = 0;  // of the weights under a rule, now
  double seconds_left = 0;
};
/// "step 120/600  loss 2.134  10.2k tokens/s  lr 3.0e-04  sparsity 61.2 %  1:05 left"
std::string to_string(const ProgressLine& line);

/// rank 0's voice: a line that overwrites itself on a terminal, plain lines elsewhere, and always
/// plain lines in the log file. What nobody takes within a second is in the log file only: Open MPI
/// stops reading once it has passed on a signal, and a run must get to its last checkpoint.
class Console {
 public:
  Console() = default;  // silent: other ranks
  /// Throws DataError if the log cannot be opened for appending.
  explicit Console(const std::filesystem::path& log);

  /// `milestone`: also keep the line (in the log file, and where the output is no terminal).
  void progress(const ProgressLine& line, bool milestone);
  void say(const std::string& text);
  /// Leaves the line that overwrites itself, if there is one.
  void end_live_line();

 private:
  void show(std::string_view text);

  bool silent_ = true;
  bool terminal_ = false;
  bool live_ = false;
  bool heard_ = true;  // the last line was taken
  std::ofstream log_;
};

}  // namespace hew::train
