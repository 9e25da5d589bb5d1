#pragma once

#include <cstdint>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace hew {

/// How text falls into documents: at lines `<|endoftext|>` and at the end of a file; at the end of
/// a file only; or at the end of every line.
enum class Documents { kSeparator, kFile, kLine };

/// Text files that can be read more than once; "-" is standard input, kept in memory.
class TextInputs {
 public:
  /// Throws DataError naming a file that cannot be read.
  explicit TextInputs(std::vector<std::string> paths);

  std::size_t count() const { return paths_.size(); }
  const std::string& path(std::size_t i) const { return paths_[i]; }
  std::unique_ptr<std::istream> open(std::size_t i) const;
  /// Of all files.
  std::int64_t bytes() const { return bytes_; }

 private:
  std::vector<std::string> paths_;
  std::string standard_input_;
  std::int64_t bytes_ = 0;
};

/// A line of a document, separators left out.
struct TextLine {
  std::string text;         // with the newline it had
  std::int64_t offset = 0;  // of its first byte in all inputs put together
  bool starts_document = false;
  std::size_t input = 0;    // which of the inputs
  std::int64_t number = 0;  // in that input, from 1
};

/// Well-formed as RFC 3629 has it: no overlong forms, no surrogates.
bool is_utf8(std::string_view text);

/// Goes once over the lines of all inputs.
class LineReader {
 public:
  /// Keeps a reference to the inputs.
  LineReader(const TextInputs& inputs, Documents documents, bool require_utf8 = false)
      : inputs_(inputs), documents_(documents), require_utf8_(require_utf8) {}

  /// Puts the next line into `line`; false after the last. Throws DataError naming the file, and
  /// the line that is not UTF-8.
  bool next(TextLine& line);

 private:
  const TextInputs& inputs_;
  Documents documents_;
  bool require_utf8_;
  std::unique_ptr<std::istream> stream_;
  std::size_t input_ = 0;
  std::int64_t offset_ = 0;
  std::int64_t number_ = 0;
  bool at_start_ = true;  // of a document
};

/// Where the held-out tail begins: the offset of the line such that nearest to `fraction` of the
/// bytes lie from there on. Of the lines that start a document, if one leaves between half and
/// twice of that, else of all lines. Throws ConfigError if either part would be empty.
std::int64_t find_split(const TextInputs& inputs, Documents documents, double fraction);

}  // namespace hew
