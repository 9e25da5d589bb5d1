#include "train/mask_picture.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "core/error.h"
#include "train/model_file.h"

namespace hew::train {
namespace {

using Color = std::array<std::uint8_t, 3>;

constexpr Color kPaper{255, 255, 255};
constexpr Color kFrame{120, 120, 120};
constexpr Color kDead{232, 232, 232};
constexpr Color kLive{24, 48, 96};
// From the weakest live block to the strongest.
constexpr std::array<Color, 4> kScale{{{254, 224, 144}, {244, 109, 67}, {165, 0, 38}, {64, 0, 40}}};
constexpr std::int64_t kGap = 8;  // between panels; a pixel of it on each side is the frame
constexpr std::int64_t kWidest = 2400;
constexpr std::int64_t kHighest = 4800;
constexpr std::int64_t kLargestBlock = 8;

using Line = std::vector<const sparsity::LinearWeight*>;

// The transformer block of a name, `blocks.7`; the whole name outside of them.
std::string line_of(const std::string& name) {
  constexpr std::string_view kBlocks = "blocks.";
  return name.starts_with(kBlocks) ? name.substr(0, name.find('.', kBlocks.size())) : name;
}

std::vector<Line> lines_of(layers::Model& model) {
  std::vector<Line> lines;
  std::string last;
  for (const sparsity::LinearWeight* weight : model.linear_weights()) {
    if (weight->pattern() == nullptr)
      continue;
    const std::string line = line_of(weight->name());
    if (lines.empty() || line != last)
      lines.emplace_back();
    lines.back().push_back(weight);
    last = line;
  }
  require<ConfigError>(!lines.empty(), "--png: no matrix of the model is under a mask");
  return lines;
}

struct Extent {
  std::int64_t width = 0;
  std::int64_t height = 0;
};

// Of the whole picture, and of the panels where they are wanted.
Extent lay_out(const std::vector<Line>& lines, std::int64_t pixels,
               std::vector<MaskPanel>* panels) {
  Extent all{.width = 0, .height = kGap};
  for (const Line& line : lines) {
    std::int64_t x = kGap;
    std::int64_t highest = 0;
    for (const sparsity::LinearWeight* weight : line) {
      const sparsity::BlockGrid& grid = weight->pattern()->grid();
      const MaskPanel panel{.name = weight->name(),
                            .x = x,
                            .y = all.height,
                            .width = grid.block_cols() * pixels,
                            .height = grid.block_rows() * pixels,
                            .live_blocks = weight->pattern()->nnzb(),
                            .blocks = grid.blocks()};
      x += panel.width + kGap;
      highest = std::max(highest, panel.height);
      if (panels != nullptr)
        panels->push_back(panel);
    }
    all.width = std::max(all.width, x);
    all.height += highest + kGap;
  }
  return all;
}

std::int64_t fitting_pixels(const std::vector<Line>& lines) {
  for (std::int64_t pixels = kLargestBlock; pixels > 1; --pixels) {
    const Extent extent = lay_out(lines, pixels, nullptr);
    if (extent.width <= kWidest && extent.height <= kHighest)
      return pixels;
  }
  return 1;
}

void fill(DecodedImage& image, const MaskPanel& area, const Color& color) {
  for (std::int64_t y = area.y; y < area.y + area.height; ++y) {
    for (std::int64_t x = area.x; x < area.x + area.width; ++x) {
      std::ranges::copy(color, image.pixels.begin() + 3 * (y * image.width + x));
    }
  }
}

// Elements of a block that are the matrix's own, not padding.
std::int64_t own_elements(const sparsity::BlockGrid& grid, std::int64_t index) {
  const std::int64_t row = index / grid.block_cols() * grid.block;
  const std::int64_t col = index % grid.block_cols() * grid.block;
  return std::min(grid.block, grid.rows - row) * std::min(grid.block, grid.cols - col);
}

// Of the live blocks in order, from 0 for the weakest to 1 for the strongest.
std::vector<double> relative_norms(const sparsity::LinearWeight& weight) {
  const sparsity::BlockGrid& grid = weight.pattern()->grid();
  const auto values = converted(weight.live_values(), DType::kFloat64).to_vector<double>();
  const std::vector<std::int64_t>& live = weight.pattern()->live_blocks();
  const auto area = static_cast<std::size_t>(grid.block * grid.block);
  std::vector<double> norms;
  for (std::size_t p = 0; p < live.size(); ++p) {
    double sum = 0;
    for (std::size_t e = p * area; e < (p + 1) * area; ++e) sum += values[e] * values[e];
    norms.push_back(std::sqrt(sum / static_cast<double>(own_elements(grid, live[p]))));
  }
  if (norms.empty())
    return norms;
  const auto [smallest, largest] = std::ranges::minmax(norms);
  for (double& norm : norms) {
    norm = largest > smallest ? (norm - smallest) / (largest - smallest) : 1;
  }
  return norms;
}

Color scale_color(double part) {
  const double place = part * static_cast<double>(kScale.size() - 1);
  const auto below = std::min(static_cast<std::size_t>(place), kScale.size() - 2);
  const double above = place - static_cast<double>(below);
  Color out{};
  for (std::size_t i = 0; i < out.size(); ++i) {
    const double mixed = (1 - above) * kScale[below][i] + above * kScale[below + 1][i];
    out[i] = static_cast<std::uint8_t>(std::lround(mixed));
  }
  return out;
}

void draw(MaskPicture& picture, const MaskPanel& panel, const sparsity::LinearWeight& weight,
          MaskColors colors) {
  fill(picture.image,
       {.x = panel.x - 1, .y = panel.y - 1, .width = panel.width + 2, .height = panel.height + 2},
       kFrame);
  fill(picture.image, panel, kDead);
  const std::vector<double> norms =
      colors == MaskColors::kNorms ? relative_norms(weight) : std::vector<double>();
  const std::int64_t columns = weight.pattern()->grid().block_cols();
  const std::vector<std::int64_t>& live = weight.pattern()->live_blocks();
  for (std::size_t p = 0; p < live.size(); ++p) {
    fill(picture.image,
         {.x = panel.x + live[p] % columns * picture.block_pixels,
          .y = panel.y + live[p] / columns * picture.block_pixels,
          .width = picture.block_pixels,
          .height = picture.block_pixels},
         norms.empty() ? kLive : scale_color(norms[p]));
  }
}

}  // namespace

MaskPicture draw_masks(layers::Model& model, MaskColors colors) {
  const std::vector<Line> lines = lines_of(model);
  MaskPicture picture;
  picture.block_pixels = fitting_pixels(lines);
  const Extent extent = lay_out(lines, picture.block_pixels, &picture.panels);
  DecodedImage& image = picture.image;
  image = {.pixels = {}, .height = extent.height, .width = extent.width, .channels = 3};
  image.pixels.resize(static_cast<std::size_t>(3 * extent.height * extent.width));
  fill(image, {.width = extent.width, .height = extent.height}, kPaper);
  auto panel = picture.panels.begin();
  for (const Line& line : lines) {
    for (const sparsity::LinearWeight* weight : line) draw(picture, *panel++, *weight, colors);
  }
  return picture;
}

}  // namespace hew::train
