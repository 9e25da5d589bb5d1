#include "tests/train/tiny_images.h"

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "core/rng.h"
#include "tests/support/device.h"

namespace hew::test {
namespace {

constexpr std::int64_t kSize = 8;

constexpr const char* kRecipe = R"(
run: {dir: unset, seed: 3, hash_check_every: 7}
model:
  {family: vit, layers: 2, heads: 2, width: 16, mlp_width: 28, patch_size: 4, dropout: 0.1,
   drop_path: 0.2}
data:
  train: unset
  valid: unset
  image: {size: 8, channels: 1, pad: 1, mixup: 0.2}
train: {steps: 40, batch: 8, log_every: 1, label_smoothing: 0.1}
optim: {lr: 5e-3, schedule: {name: cosine, warmup: 5}}
checkpoint: {every: 20, keep: 5}
)";

void write_bytes(std::ofstream& out, const std::vector<std::int64_t>& header,
                 const std::vector<std::uint8_t>& bytes) {
  for (const std::int64_t number : header) {
    for (const int shift : {24, 16, 8, 0}) out.put(static_cast<char>(number >> shift & 0xff));
  }
  out.write(reinterpret_cast<const char*>(bytes.data()), std::ssize(bytes));
}

void write_images(const std::filesystem::path& folder, const std::string& name, std::uint64_t seed,
                  std::int64_t count) {
  std::vector<std::uint8_t> pixels;
  std::vector<std::uint8_t> labels;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t label = i % 3;
    labels.push_back(static_cast<std::uint8_t>(label));
    for (std::int64_t p = 0; p < kSize * kSize; ++p) {
      const std::int64_t lines = label == 0   ? p / kSize
                                 : label == 1 ? p % kSize
                                              : p % kSize + p / kSize;
      const bool bright = lines % 2 == 0;
      const auto noise =
          uniform_below(seed, 0, static_cast<std::uint64_t>(i * kSize * kSize + p), 100);
      pixels.push_back(static_cast<std::uint8_t>(noise + (bright ? 120U : 0U)));
    }
  }
  write_idx(folder, name, kSize, pixels, labels);
}

}  // namespace

std::string write_idx(const std::filesystem::path& folder, const std::string& name,
                      std::int64_t size, const std::vector<std::uint8_t>& pixels,
                      const std::vector<std::uint8_t>& labels) {
  constexpr std::int64_t kImages = 0x803;  // bytes in three dimensions
  constexpr std::int64_t kLabels = 0x801;
  const std::string path = (folder / (name + "-images-idx3-ubyte")).string();
  std::ofstream images(path, std::ios::binary);
  write_bytes(images, {kImages, std::ssize(labels), size, size}, pixels);
  std::ofstream beside(folder / (name + "-labels-idx1-ubyte"), std::ios::binary);
  write_bytes(beside, {kLabels, std::ssize(labels)}, labels);
  return path;
}

TinyImageRuns::TinyImageRuns(const std::filesystem::path& folder, dist::Communicator& comm)
    : folder_(folder) {
  if (comm.rank() == 0) {
    write_images(folder_, "train", 1, 50);
    write_images(folder_, "valid", 2, 31);
  }
  comm.barrier();
}

std::string TinyImageRuns::train_path() const {
  return (folder_ / "train-images-idx3-ubyte").string();
}

std::string TinyImageRuns::valid_path() const {
  return (folder_ / "valid-images-idx3-ubyte").string();
}

train::Recipe TinyImageRuns::recipe(const std::string& run,
                                    const std::vector<std::string>& overrides) const {
  std::vector<std::string> all{"run.dir=" + directory(run).string(), "data.train=" + train_path(),
                               "data.valid=" + valid_path()};
  if (on_gpu())
    all.insert(all.end(), {"run.device=cuda", "run.deterministic=true"});
  all.insert(all.end(), overrides.begin(), overrides.end());
  return train::parse_recipe(kRecipe, "tiny", all);
}

std::string image_sparsity(const std::string& method) {
  const std::string rule =
      "match: [blocks.*.mlp.*.weight, blocks.*.attn.*.weight, head.weight], block: 8, method: " +
      method;
  if (method == "supermask")
    return "sparsity=[{" + rule +
           ", schedule: {name: constant, final: 0.5}, freeze_scores_at: 75%}]";
  if (method == "static")
    return "sparsity=[{" + rule + ", schedule: {final: 0.5}}]";
  return "sparsity=[{" + rule +
         ", every: 5, schedule: {name: cubic, initial: 0.1, final: 0.6, end: 75%}}]";
}

}  // namespace hew::test
