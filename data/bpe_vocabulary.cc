#include <array>
#include <charconv>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "data/bpe_tokenizer.h"

namespace hew {
namespace {

/// GPT-2's printable stand-ins for bytes: a byte that prints is itself, the others are the code
/// points from 256 on, in order. All are below 512, so two bytes of UTF-8 at most.
constexpr std::size_t kStandIns = 512;

std::array<int, kStandIns> make_byte_of_stand_in() {
  std::array<int, kStandIns> byte_of{};
  byte_of.fill(-1);
  std::size_t next = 256;
  for (int byte = 0; byte < 256; ++byte) {
    const bool prints = (byte >= 33 && byte <= 126) || (byte >= 161 && byte != 173);
    byte_of[prints ? static_cast<std::size_t>(byte) : next++] = byte;
  }
  return byte_of;
}

/// The bytes that a key of encoder.json stands for; nothing if it has other characters.
std::optional<std::string> bytes_of(std::string_view key) {
  static const std::array<int, kStandIns> kByteOf = make_byte_of_stand_in();
  std::string bytes;
  for (std::size_t i = 0; i < key.size(); ++i) {
    auto point = static_cast<std::size_t>(static_cast<unsigned char>(key[i]));
    if (point >= 0x80) {
      if ((point & 0xe0U) != 0xc0U || ++i == key.size())
        return std::nullopt;
      point = ((point & 0x1fU) << 6U) | (static_cast<std::size_t>(key[i]) & 0x3fU);
    }
    if (point >= kStandIns || kByteOf[point] < 0)
      return std::nullopt;
    bytes += static_cast<char>(kByteOf[point]);
  }
  return bytes;
}

std::ifstream open_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  require<DataError>(file.good(), "{}: cannot be opened", path);
  return file;
}

using Ids = std::unordered_map<std::string, std::int32_t>;  // by key of encoder.json

Ids read_ids(const std::string& path) {
  std::ifstream file = open_file(path);
  try {
    return nlohmann::json::parse(file).get<Ids>();
  } catch (const nlohmann::json::exception& error) {
    throw DataError(fmt::format("{}: not a GPT-2 vocabulary: {}", path, error.what()));
  }
}

int digit_of(char c) {
  if (c >= '0' && c <= '9')
    return c - '0';
  if (c >= 'a' && c <= 'f')
    return c - 'a' + 10;
  return -1;
}

/// Takes lines and numbers off a stored vocabulary.
class BlobReader {
 public:
  explicit BlobReader(std::string_view blob) : rest_(blob) {}

  std::string_view line() {
    const std::size_t end = rest_.find('\n');
    require<DataError>(end != std::string_view::npos, "[gpt2] the stored vocabulary is cut short");
    const std::string_view line = rest_.substr(0, end);
    rest_.remove_prefix(end + 1);
    return line;
  }
  template <std::size_t kCount>
  static std::array<std::int32_t, kCount> numbers(std::string_view line) {
    std::array<std::int32_t, kCount> out{};
    const char* at = line.data();
    const char* end = at + line.size();
    for (std::int32_t& number : out) {
      if (at != end && *at == ' ')
        ++at;
      const auto result = std::from_chars(at, end, number);
      require<DataError>(result.ec == std::errc(), "[gpt2] bad line '{}' in the stored vocabulary",
                         line);
      at = result.ptr;
    }
    return out;
  }
  bool done() const { return rest_.empty(); }

 private:
  std::string_view rest_;
};

std::string from_hex(std::string_view line) {
  std::string bytes;
  for (std::size_t i = 0; i + 1 < line.size(); i += 2) {
    const int high = digit_of(line[i]);
    const int low = digit_of(line[i + 1]);
    require<DataError>(high >= 0 && low >= 0, "[gpt2] bad piece '{}' in the stored vocabulary",
                       line);
    bytes += static_cast<char>(high * 16 + low);
  }
  return bytes;
}

}  // namespace

BpeVocabulary read_gpt2_vocabulary(const std::string& encoder_json, const std::string& vocab_bpe) {
  const Ids ids = read_ids(encoder_json);
  BpeVocabulary vocabulary;
  vocabulary.pieces.resize(ids.size());
  for (const auto& [key, id] : ids) {
    const bool inside = id >= 0 && static_cast<std::size_t>(id) < ids.size();
    const std::optional<std::string> bytes = bytes_of(key);
    require<DataError>(inside && bytes && vocabulary.pieces[static_cast<std::size_t>(id)].empty(),
                       "{}: bad entry '{}': {}", encoder_json, key, id);
    vocabulary.pieces[static_cast<std::size_t>(id)] = *bytes;
    if (key == kEndOfText)
      vocabulary.end_of_text = id;
  }
  std::ifstream file = open_file(vocab_bpe);
  std::string line;
  for (std::int64_t number = 1; std::getline(file, line); ++number) {
    if (line.empty() || (number == 1 && line.starts_with("#version")))
      continue;
    const std::size_t space = line.find(' ');
    const auto left = ids.find(line.substr(0, space));
    const auto right = space == std::string::npos ? ids.end() : ids.find(line.substr(space + 1));
    require<DataError>(left != ids.end() && right != ids.end(), "{}:{}: bad merge '{}'", vocab_bpe,
                       number, line);
    vocabulary.merges.emplace_back(left->second, right->second);
  }
  return vocabulary;
}

std::string serialize(const BpeVocabulary& vocabulary) {
  std::string blob = fmt::format("hew-bpe 1 {} {} {}\n", vocabulary.pieces.size(),
                                 vocabulary.merges.size(), vocabulary.end_of_text.value_or(-1));
  for (const std::string& piece : vocabulary.pieces) {
    for (const char c : piece) {
      blob += fmt::format("{:02x}", static_cast<unsigned>(static_cast<unsigned char>(c)));
    }
    blob += '\n';
  }
  for (const auto& [left, right] : vocabulary.merges) blob += fmt::format("{} {}\n", left, right);
  return blob;
}

BpeVocabulary parse_bpe_vocabulary(std::string_view blob) {
  constexpr std::string_view kMagic = "hew-bpe 1 ";
  BlobReader reader(blob);
  const std::string_view header = reader.line();
  require<DataError>(header.starts_with(kMagic), "[gpt2] not a stored vocabulary");
  const auto [pieces, merges, end] = BlobReader::numbers<3>(header.substr(kMagic.size()));
  BpeVocabulary vocabulary;
  for (std::int32_t i = 0; i < pieces; ++i) vocabulary.pieces.push_back(from_hex(reader.line()));
  for (std::int32_t i = 0; i < merges; ++i) {
    const auto [left, right] = BlobReader::numbers<2>(reader.line());
    vocabulary.merges.emplace_back(left, right);
  }
  require<DataError>(reader.done(), "[gpt2] the stored vocabulary goes on after its last merge");
  if (end >= 0)
    vocabulary.end_of_text = end;
  return vocabulary;
}

}  // namespace hew
