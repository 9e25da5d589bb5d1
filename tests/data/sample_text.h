#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

namespace hew::test {

/// Lines of English-like words that depend on the seed alone, with a newline each.
std::string sample_lines(int count, std::uint64_t seed);

/// Letters, digits, signs and spaces of many scripts, on which careless splitters fail.
std::string unicode_sample();

/// Writes encoder.json and vocab.bpe of a small GPT-2-like vocabulary: the 256 bytes, some merges,
/// and end of text.
void write_small_gpt2(const std::filesystem::path& encoder_json,
                      const std::filesystem::path& vocab_bpe);

/// The content of an .xz file of the shared development texts, which lie where HEW_SHARED_DATA
/// says, or beside the sources; nothing if it is not there.
std::optional<std::string> shared_text(const std::string& name);

}  // namespace hew::test
