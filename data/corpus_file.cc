#include "data/corpus_file.h"

#include <algorithm>
#include <array>
#include <bit>
#include <vector>

#include "core/error.h"
#include "data/tokenizer.h"
#include "io/atomic_file.h"
#include "io/hdf5.h"

namespace hew {
namespace {

static_assert(std::endian::native == std::endian::little, "corpora are little-endian");

template <class Stored, class Read>
void read_as(std::span<std::int32_t> out, const Read& read) {
  std::vector<Stored> stored(out.size());
  read(std::span(stored));
  std::transform(stored.begin(), stored.end(), out.begin(),
                 [](Stored token) { return static_cast<std::int32_t>(token); });
}

class Hdf5Corpus final : public CorpusFile {
 public:
  Hdf5Corpus(H5Reader reader, CorpusInfo info)
      : CorpusFile(reader.file(), std::move(info)),
        reader_(std::move(reader)),
        narrow_(reader_.dtype("tokens") == DType::kUInt16) {}

  void read(std::int64_t begin, std::span<std::int32_t> out) const override {
    const auto read = [&](auto stored) { reader_.read_range("tokens", begin, stored); };
    narrow_ ? read_as<std::uint16_t>(out, read) : read(out);
  }

 private:
  H5Reader reader_;
  bool narrow_;
};

std::unique_ptr<CorpusFile> open_hdf5(const std::string& path) {
  H5Reader reader(path, kCorpusKind, kCorpusVersion);
  const auto blob = reader.read_vector<std::uint8_t>("tokenizer");
  CorpusInfo info{.format = "hew-h5",
                  .tokens = reader.shape("tokens").numel(),
                  .vocab_size = reader.attribute_int("/", "vocab_size"),
                  .largest_token = reader.attribute_int("/", "largest_token"),
                  .bytes = reader.attribute_int("/", "bytes"),
                  .documents = reader.attribute_int("/", "documents"),
                  .tokenizer_kind = reader.attribute_string("/", "tokenizer_kind"),
                  .tokenizer_sha256 = reader.attribute_string("/", "tokenizer_sha256"),
                  .tokenizer_blob = std::string(blob.begin(), blob.end())};
  require<DataError>(info.tokens > 0, "{}: holds no tokens", path);
  require<DataError>(
      info.tokenizer_sha256 == tokenizer_sha256(info.tokenizer_kind, info.tokenizer_blob),
      "{}: its tokenizer does not have the hash it says", path);
  return std::make_unique<Hdf5Corpus>(std::move(reader), std::move(info));
}

/// Tokens as plain numbers after a header.
class BinCorpus final : public CorpusFile {
 public:
  struct Layout {
    std::int64_t offset = 0;  // bytes in front of the tokens
    std::int64_t width = 0;   // bytes of a token: uint16 or uint32
  };
  BinCorpus(std::string path, CorpusInfo info, FileDescriptor file, Layout layout)
      : CorpusFile(std::move(path), std::move(info)), file_(std::move(file)), layout_(layout) {}

  void read(std::int64_t begin, std::span<std::int32_t> out) const override {
    const auto read = [&](auto stored) {
      read_at(file_, path(), layout_.offset + begin * layout_.width,
              std::as_writable_bytes(stored));
    };
    layout_.width == 2 ? read_as<std::uint16_t>(out, read) : read_as<std::uint32_t>(out, read);
  }

 private:
  FileDescriptor file_;
  Layout layout_;
};

/// One of llm.c's data formats: 256 int32 (magic, version, tokens, zeros), then the tokens.
struct LlmcFormat {
  std::int32_t magic;
  std::int32_t version;
  std::int64_t width;
};
constexpr std::array kLlmcFormats = {LlmcFormat{20240520, 1, 2}, LlmcFormat{20240801, 7, 4}};
constexpr std::int64_t kLlmcHeader = std::int64_t{256} * 4;

std::unique_ptr<CorpusFile> open_llmc(const std::string& path, FileDescriptor file,
                                      const LlmcFormat& format) {
  const std::int64_t size = size_of_file(file, path);
  require<DataError>(size >= kLlmcHeader, "{}: truncated, {} bytes are too few for the header",
                     path, size);
  std::array<std::int32_t, 3> header{};
  read_at(file, path, 0, std::as_writable_bytes(std::span(header)));
  const auto [magic, version, tokens] = header;
  require<DataError>(version == format.version,
                     "{}: llm.c data of magic {} and version {}, expected {}", path, magic, version,
                     format.version);
  require<DataError>(tokens > 0, "{}: its header says {} tokens", path, tokens);
  const std::int64_t wanted = kLlmcHeader + tokens * format.width;
  require<DataError>(size >= wanted, "{}: truncated, {} of {} bytes are there", path, size, wanted);
  require<DataError>(size == wanted, "{}: {} bytes where its header asks for {}", path, size,
                     wanted);
  return std::make_unique<BinCorpus>(path, CorpusInfo{.format = "llm.c", .tokens = tokens},
                                     std::move(file), BinCorpus::Layout{kLlmcHeader, format.width});
}

std::unique_ptr<CorpusFile> open_nanogpt(const std::string& path, FileDescriptor file) {
  constexpr std::int64_t kWidth = 2;
  const std::int64_t size = size_of_file(file, path);
  require<DataError>(size % kWidth == 0, "{}: {} bytes are no whole number of uint16 tokens", path,
                     size);
  return std::make_unique<BinCorpus>(path, CorpusInfo{.format = "nanogpt", .tokens = size / kWidth},
                                     std::move(file), BinCorpus::Layout{0, kWidth});
}

}  // namespace

std::unique_ptr<CorpusFile> open_corpus_file(const std::string& path) {
  FileDescriptor file = open_to_read(path);
  const std::int64_t size = size_of_file(file, path);
  require<DataError>(size > 0, "{}: empty", path);
  std::int32_t magic = 0;
  if (size >= std::ssize(std::as_bytes(std::span(&magic, 1)))) {
    read_at(file, path, 0, std::as_writable_bytes(std::span(&magic, 1)));
  }
  for (const LlmcFormat& format : kLlmcFormats) {
    if (magic == format.magic)
      return open_llmc(path, std::move(file), format);
  }
  constexpr std::int32_t kSealed = 0x2d776568;  // "hew-"
  if (magic != kSealed && path.ends_with(".bin"))
    return open_nanogpt(path, std::move(file));
  return open_hdf5(path);
}

}  // namespace hew
