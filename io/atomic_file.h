#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "core/handle.h"

namespace hew {

struct FileDescriptorTraits {
  using Value = int;
  static Value null() { return -1; }
  static void destroy(Value fd) noexcept;
};
using FileDescriptor = UniqueHandle<FileDescriptorTraits>;

/// Opens an existing file to read. Throws DataError `<path>: <reason>`.
FileDescriptor open_to_read(const std::filesystem::path& path);
/// Bytes in an open file. Throws DataError.
std::int64_t size_of_file(const FileDescriptor& file, const std::filesystem::path& path);
/// Fills `out` from byte `offset` on. Throws DataError, also where the file ends too early.
void read_at(const FileDescriptor& file, const std::filesystem::path& path, std::int64_t offset,
             std::span<std::byte> out);
/// All bytes of a file. Throws DataError.
std::vector<std::uint8_t> read_all(const std::filesystem::path& path);

/// Syncs a folder, without which a power cut may take the names in it; some file systems cannot,
/// which is no failure. Returns 0 or the errno.
int sync_folder(const std::filesystem::path& path);

/// A file that appears under its name complete or not at all. Bytes go to `<path>.tmp.<pid>`;
/// commit() syncs them, renames onto `path` and syncs the folder. Until then, and after any
/// failure, an older file at `path` is untouched; without commit() the temporary file is removed.
/// One writer a path at a time. What is at `path` and no regular file stays. All functions throw
/// DataError naming `path` and the reason.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path path);
  AtomicFile(AtomicFile&& other) noexcept = default;
  AtomicFile& operator=(AtomicFile&&) = delete;
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile();

  const std::filesystem::path& path() const { return path_; }
  /// The name the bytes are under until commit().
  const std::filesystem::path& temporary() const { return temporary_; }

  /// Appends at the current end of what write() wrote.
  void write(std::span<const std::byte> bytes);
  void write_at(std::int64_t offset, std::span<const std::byte> bytes);
  /// Reads back what was written; bytes past the end are zero.
  void read_back(std::int64_t offset, std::span<std::byte> out) const;
  /// Cuts off, or adds zeros, to this many bytes.
  void resize(std::int64_t bytes);
  void commit();

  /// "cannot write: <reason>", with what is at `path` now; the text that all failures share.
  std::string failure_text(const std::string& reason) const;

 private:
  std::filesystem::path path_;
  std::filesystem::path temporary_;
  FileDescriptor file_;
  std::int64_t end_ = 0;
};

}  // namespace hew
