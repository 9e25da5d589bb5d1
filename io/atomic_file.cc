#include "io/atomic_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "core/error.h"

namespace hew {
namespace {

// Linux moves at most 0x7ffff000 bytes a call.
constexpr std::size_t kLargestTransfer = std::size_t{1} << 30U;

std::string reason_of(int code) {
  return std::generic_category().message(code);
}

[[noreturn]] void fail(const std::filesystem::path& path, int code) {
  throw DataError(fmt::format("{}: {}", path.string(), reason_of(code)));
}

}  // namespace

void FileDescriptorTraits::destroy(Value fd) noexcept {
  ::close(fd);
}

FileDescriptor open_to_read(const std::filesystem::path& path) {
  FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file)
    fail(path, errno);
  return file;
}

std::int64_t size_of_file(const FileDescriptor& file, const std::filesystem::path& path) {
  struct stat status {};
  if (::fstat(file.get(), &status) != 0)
    fail(path, errno);
  if (S_ISDIR(status.st_mode))
    fail(path, EISDIR);
  return status.st_size;
}

void read_at(const FileDescriptor& file, const std::filesystem::path& path, std::int64_t offset,
             std::span<std::byte> out) {
  while (!out.empty()) {
    const ssize_t got =
        ::pread(file.get(), out.data(), std::min(out.size(), kLargestTransfer), offset);
    if (got < 0 && errno == EINTR)
      continue;
    if (got < 0)
      fail(path, errno);
    require<DataError>(got > 0, "{}: truncated, the file ends at byte {}", path.string(), offset);
    offset += got;
    out = out.subspan(static_cast<std::size_t>(got));
  }
}

std::vector<std::uint8_t> read_all(const std::filesystem::path& path) {
  const FileDescriptor file = open_to_read(path);
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(size_of_file(file, path)));
  read_at(file, path, 0, std::as_writable_bytes(std::span(bytes)));
  return bytes;
}

int sync_folder(const std::filesystem::path& path) {
  const FileDescriptor folder(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder)
    return errno;
  if (::fsync(folder.get()) == 0 || errno == EINVAL || errno == ENOTSUP)
    return 0;
  return errno;
}

AtomicFile::AtomicFile(std::filesystem::path path)
    : path_(std::move(path)), temporary_(path_.string() + fmt::format(".tmp.{}", ::getpid())) {
  std::error_code ignored;
  require<DataError>(path_.has_filename(), "'{}' does not name a file", path_.string());
  require<DataError>(!std::filesystem::is_directory(path_, ignored),
                     "{}: cannot write: a folder has this name", path_.string());
  require<DataError>(
      !std::filesystem::exists(path_, ignored) || std::filesystem::is_regular_file(path_, ignored),
      "{}: cannot write: this is no regular file", path_.string());
  ::unlink(temporary_.c_str());  // left by a killed process that had this pid
  file_ = FileDescriptor(::open(temporary_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC,
                                S_IRUSR | S_IWUSR | S_IRGRP | S_IWGRP | S_IROTH | S_IWOTH));
  require<DataError>(static_cast<bool>(file_), "{}", failure_text(reason_of(errno)));
}

AtomicFile::~AtomicFile() {
  if (file_)
    ::unlink(temporary_.c_str());
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  write_at(end_, bytes);
  end_ += static_cast<std::int64_t>(bytes.size());
}

void AtomicFile::write_at(std::int64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t put =
        ::pwrite(file_.get(), bytes.data(), std::min(bytes.size(), kLargestTransfer), offset);
    if (put < 0 && errno == EINTR)
      continue;
    require<DataError>(put >= 0, "{}", failure_text(reason_of(errno)));
    offset += put;
    bytes = bytes.subspan(static_cast<std::size_t>(put));
  }
}

void AtomicFile::read_back(std::int64_t offset, std::span<std::byte> out) const {
  const std::int64_t size = size_of_file(file_, temporary_);
  const std::int64_t there =
      std::clamp<std::int64_t>(size - offset, 0, static_cast<std::int64_t>(out.size()));
  read_at(file_, temporary_, offset, out.first(static_cast<std::size_t>(there)));
  std::ranges::fill(out.subspan(static_cast<std::size_t>(there)), std::byte{0});
}

void AtomicFile::resize(std::int64_t bytes) {
  require<DataError>(::ftruncate(file_.get(), bytes) == 0, "{}", failure_text(reason_of(errno)));
}

void AtomicFile::commit() {
  require<DataError>(::fsync(file_.get()) == 0, "{}", failure_text(reason_of(errno)));
  require<DataError>(::rename(temporary_.c_str(), path_.c_str()) == 0, "{}",
                     failure_text(reason_of(errno)));
  file_.reset();
  const int code = sync_folder(path_.has_parent_path() ? path_.parent_path() : ".");
  require<DataError>(code == 0, "{}: written, but may not survive a power cut: {}", path_.string(),
                     reason_of(code));
}

std::string AtomicFile::failure_text(const std::string& reason) const {
  std::error_code ignored;
  const bool old = std::filesystem::exists(path_, ignored);
  return fmt::format("{}: cannot write: {} ({})", path_.string(), reason,
                     old ? "the older file of this name is untouched" : "nothing is left behind");
}

}  // namespace hew
