#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace hew::test {

/// An IDX file of bytes; `extents` are what its header says.
std::string idx_bytes(const std::vector<std::uint32_t>& extents, const std::string& values);
/// The bytes gzipped.
std::string gzipped(const std::string& bytes);
/// `count` images height x width whose pixel p of image i is (7 i + p) mod 251, label i mod 10:
/// train-images-idx3-ubyte and its labels in `folder`. Returns the path of the images.
std::string write_idx_pair(const std::filesystem::path& folder, std::uint32_t count,
                           std::uint32_t height, std::uint32_t width);
/// Where Debian's dataset-fashion-mnist has this file; empty, with a message, where it is missing.
std::string fashion_mnist(const std::string& file);

}  // namespace hew::test
