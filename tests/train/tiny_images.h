#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "dist/comm.h"
#include "train/recipe.h"

namespace hew::test {

/// Runs of a small ViT on made-up images: 8 × 8 grey pixels of three classes: rows, columns or a
/// chessboard, under noise.
class TinyImageRuns {
 public:
  /// Makes the IDX files in `folder`, which ranks may share: only rank 0 of `comm` writes.
  TinyImageRuns(const std::filesystem::path& folder, dist::Communicator& comm);

  /// The recipe as a user would write it, with run.dir under the folder, on the tests' device and
  /// there deterministic, and overrides applied. Dropout, stochastic depth, mixup and random crops
  /// are on.
  train::Recipe recipe(const std::string& run, const std::vector<std::string>& overrides) const;
  std::filesystem::path directory(const std::string& run) const { return folder_ / run; }
  /// Training images, and others.
  std::string train_path() const;
  std::string valid_path() const;

 private:
  std::filesystem::path folder_;
};

/// An override that puts every linear layer but the patch embedding under a method; the output
/// projection and the ragged head too.
std::string image_sparsity(const std::string& method);

/// Images as an IDX file, with labels beside it: `<folder>/<name>-images-idx3-ubyte`. Returns its
/// path.
std::string write_idx(const std::filesystem::path& folder, const std::string& name,
                      std::int64_t size, const std::vector<std::uint8_t>& pixels,
                      const std::vector<std::uint8_t>& labels);

}  // namespace hew::test
