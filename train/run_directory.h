#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "io/atomic_file.h"
#include "train/recipe.h"

namespace hew::train {

/// Where a run keeps its files:
///   recipe.yaml               the effective recipe
///   metrics.jsonl             one JSON object a line
///   train.log                 what the terminal showed, as plain lines
///   checkpoints/step-N.h5     N completed steps, eight digits
class RunDirectory {
 public:
  explicit RunDirectory(std::filesystem::path root) : root_(std::move(root)) {}

  const std::filesystem::path& root() const { return root_; }
  std::filesystem::path recipe() const { return root_ / "recipe.yaml"; }
  std::filesystem::path metrics() const { return root_ / "metrics.jsonl"; }
  std::filesystem::path log() const { return root_ / "train.log"; }
  std::filesystem::path checkpoint(std::int64_t steps) const;

  /// True if it holds a recipe, metrics or a checkpoint.
  bool has_run() const;
  /// Throws DataError if a run is there already, or goes on: nothing is ever overwritten.
  void require_free() const;
  /// Keeps other processes from training here while the result lives. Throws DataError if one does.
  /// On file systems without locks nobody is kept away.
  FileDescriptor lock() const;
  /// Makes the folders, locks, and writes recipe.yaml. Throws DataError, also if a run is there
  /// already.
  FileDescriptor create(const Recipe& recipe) const;
  /// Replaces recipe.yaml (a resume that lengthened the run).
  void save_recipe(const Recipe& recipe) const;
  /// Checkpoints, the newest first.
  std::vector<std::filesystem::path> checkpoints() const;
  /// Deletes all but the newest `keep` of the checkpoints of at most `newest` steps: broken ones
  /// that a resumed run has yet to reach must not push out those it writes.
  void prune_checkpoints(std::int64_t keep, std::int64_t newest) const;
  /// Deletes what a process that was killed while it wrote a checkpoint has left. Only for the one
  /// process that writes here.
  void remove_unfinished() const;

 private:
  void require_no_run() const;

  std::filesystem::path root_;
};

}  // namespace hew::train
