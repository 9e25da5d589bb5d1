#include "data/text_lines.h"

#include <cmath>
#include <iostream>
#include <iterator>

#include "core/error.h"
#include "data/tokenizer.h"
#include "io/atomic_file.h"

namespace hew {
namespace {

bool is_separator(std::string_view line) {
  while (line.ends_with('\n') || line.ends_with('\r')) line.remove_suffix(1);
  return line == kEndOfText;
}

}  // namespace

TextInputs::TextInputs(std::vector<std::string> paths) : paths_(std::move(paths)) {
  for (const std::string& path : paths_) {
    if (path != "-") {
      bytes_ += size_of_file(open_to_read(path), path);
    } else if (standard_input_.empty()) {
      standard_input_.assign(std::istreambuf_iterator<char>(std::cin), {});
      bytes_ += std::ssize(standard_input_);
    } else {
      throw ConfigError("standard input (-) is named twice");
    }
  }
}

std::unique_ptr<std::istream> TextInputs::open(std::size_t i) const {
  if (paths_[i] == "-")
    return std::make_unique<std::istringstream>(standard_input_);
  auto file = std::make_unique<std::ifstream>(paths_[i], std::ios::binary);
  require<DataError>(file->good(), "{}: cannot be opened", paths_[i]);
  return file;
}

bool is_utf8(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  for (std::size_t i = 0; i < text.size();) {
    const unsigned first = byte(i++);
    if (first < 0x80)
      continue;
    const unsigned tail = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : 1;
    if (first < 0xc2 || first > 0xf4 || i + tail > text.size())
      return false;
    // The second byte's range keeps out overlong forms, surrogates and what is above U+10FFFF.
    const unsigned low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    const unsigned high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
    if (byte(i) < low || byte(i) > high)
      return false;
    for (unsigned k = 1; k < tail; ++k) {
      if ((byte(i + k) & 0xc0U) != 0x80U)
        return false;
    }
    i += tail;
  }
  return true;
}

bool LineReader::next(TextLine& line) {
  while (input_ < inputs_.count()) {
    if (!stream_) {
      stream_ = inputs_.open(input_);
      number_ = 0;
      at_start_ = true;
    }
    while (std::getline(*stream_, line.text)) {
      if (!stream_->eof())
        line.text += '\n';
      line.offset = offset_;
      line.input = input_;
      line.number = ++number_;
      offset_ += std::ssize(line.text);
      if (documents_ == Documents::kSeparator && is_separator(line.text)) {
        at_start_ = true;
        continue;
      }
      require<DataError>(!require_utf8_ || is_utf8(line.text), "{}:{}: not UTF-8",
                         inputs_.path(input_), number_);
      line.starts_document = at_start_ || documents_ == Documents::kLine;
      at_start_ = false;
      return true;
    }
    require<DataError>(!stream_->bad(), "{}: cannot be read", inputs_.path(input_));
    stream_.reset();
    ++input_;
  }
  return false;
}

std::int64_t find_split(const TextInputs& inputs, Documents documents, double fraction) {
  const double total = static_cast<double>(inputs.bytes());
  const double target = (1 - fraction) * total;
  const auto distance = [&](std::int64_t at) { return std::abs(static_cast<double>(at) - target); };
  std::int64_t by_document = 0;
  std::int64_t by_line = 0;
  TextLine line;
  for (LineReader lines(inputs, documents); lines.next(line);) {
    if (line.offset == 0)
      continue;
    const auto is_nearer = [&](std::int64_t best) {
      return best == 0 || distance(line.offset) < distance(best);
    };
    if (line.starts_document && is_nearer(by_document))
      by_document = line.offset;
    if (is_nearer(by_line))
      by_line = line.offset;
  }
  const double tail = total - static_cast<double>(by_document);
  const double wanted = fraction * total;
  const bool fits = by_document > 0 && tail >= 0.5 * wanted && tail <= 2 * wanted;
  const std::int64_t split = fits ? by_document : by_line;
  require<ConfigError>(
      split > 0,
      "{}: all text is fewer than two lines, {} bytes; a held-out part begins where a line does",
      inputs.path(0), inputs.bytes());
  return split;
}

}  // namespace hew
