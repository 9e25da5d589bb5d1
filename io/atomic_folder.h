#pragma once

#include <filesystem>

namespace hew {

/// A folder that appears under its name complete or not at all. Files are put into `temporary()`,
/// `<path>.tmp.<pid>`; commit() renames it onto `path`, after moving an older folder there out of
/// the way and before deleting that. Until then, and after any failure, the older folder is
/// untouched; without commit() the temporary one is removed. Its files must be synced by whoever
/// writes them. Throws DataError naming `path` and the reason.
class AtomicFolder {
 public:
  explicit AtomicFolder(const std::filesystem::path& path);
  AtomicFolder(const AtomicFolder&) = delete;
  AtomicFolder& operator=(const AtomicFolder&) = delete;
  ~AtomicFolder();

  const std::filesystem::path& temporary() const { return temporary_; }
  void commit();

 private:
  std::filesystem::path path_;
  std::filesystem::path temporary_;
  bool committed_ = false;
};

}  // namespace hew
