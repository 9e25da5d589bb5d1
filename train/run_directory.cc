#include "train/run_directory.h"

#include <fcntl.h>
#include <sys/file.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <system_error>

#include "core/error.h"

namespace hew::train {
namespace {

constexpr std::string_view kPrefix = "step-";
constexpr std::string_view kSuffix = ".h5";
constexpr std::string_view kUnfinished = ".tmp.";  // AtomicFile's, before a process number

// N of "step-N.h5", or −1.
std::int64_t steps_of(const std::filesystem::path& path) {
  const std::string name = path.filename().string();
  if (!name.starts_with(kPrefix) || !name.ends_with(kSuffix))
    return -1;
  std::int64_t steps = -1;
  const char* end = name.data() + name.size() - kSuffix.size();
  const auto parsed = std::from_chars(name.data() + kPrefix.size(), end, steps);
  return parsed.ec == std::errc{} && parsed.ptr == end ? steps : -1;
}

void make_directories(const std::filesystem::path& path) {
  std::error_code code;
  std::filesystem::create_directories(path, code);
  require<DataError>(!code, "{}: cannot make this folder: {}", path.string(), code.message());
}

}  // namespace

std::filesystem::path RunDirectory::checkpoint(std::int64_t steps) const {
  return root_ / "checkpoints" / fmt::format("{}{:08}{}", kPrefix, steps, kSuffix);
}

bool RunDirectory::has_run() const {
  std::error_code ignored;
  return std::filesystem::exists(recipe(), ignored) ||
         std::filesystem::exists(metrics(), ignored) || !checkpoints().empty();
}

void RunDirectory::require_free() const {
  if (has_run())
    lock();  // let go of at once: a run that goes on is not to be resumed or removed
  require_no_run();
}

void RunDirectory::require_no_run() const {
  const bool can_resume = !checkpoints().empty();
  require<DataError>(!has_run(), "{}: holds a run already{}; {} it or choose another run.dir",
                     root_.string(), can_resume ? "" : " that ended before its first checkpoint",
                     can_resume ? "resume" : "remove");
}

FileDescriptor RunDirectory::lock() const {
  FileDescriptor folder(::open(root_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const bool taken = folder && ::flock(folder.get(), LOCK_EX | LOCK_NB) != 0;
  require<DataError>(!taken || errno != EWOULDBLOCK, "{}: another process is training here",
                     root_.string());
  return folder;
}

FileDescriptor RunDirectory::create(const Recipe& wanted) const {
  require_free();
  make_directories(root_ / "checkpoints");
  FileDescriptor held = lock();
  require_no_run();  // another process may have been here first
  save_recipe(wanted);
  return held;
}

void RunDirectory::save_recipe(const Recipe& wanted) const {
  AtomicFile file(recipe());
  const std::string text = to_yaml(wanted);
  file.write(std::as_bytes(std::span(text)));
  file.commit();
}

std::vector<std::filesystem::path> RunDirectory::checkpoints() const {
  std::vector<std::pair<std::int64_t, std::filesystem::path>> found;
  std::error_code code;
  for (const auto& entry : std::filesystem::directory_iterator(root_ / "checkpoints", code)) {
    const std::int64_t steps = steps_of(entry.path());
    if (steps >= 0)
      found.emplace_back(steps, entry.path());
  }
  std::sort(found.rbegin(), found.rend());
  std::vector<std::filesystem::path> paths;
  paths.reserve(found.size());
  for (auto& [steps, path] : found) paths.push_back(std::move(path));
  return paths;
}

void RunDirectory::prune_checkpoints(std::int64_t keep, std::int64_t newest) const {
  for (const std::filesystem::path& path : checkpoints()) {
    if (steps_of(path) > newest || keep-- > 0)
      continue;
    std::error_code ignored;  // an old checkpoint that stays does no harm
    std::filesystem::remove(path, ignored);
  }
}

void RunDirectory::remove_unfinished() const {
  std::error_code ignored;
  std::vector<std::filesystem::path> unfinished;
  for (const auto& entry : std::filesystem::directory_iterator(root_ / "checkpoints", ignored)) {
    const std::string name = entry.path().filename().string();
    const std::size_t suffix = name.find(kUnfinished);
    if (suffix != std::string::npos && steps_of(name.substr(0, suffix)) >= 0)
      unfinished.push_back(entry.path());
  }
  for (const std::filesystem::path& path : unfinished) std::filesystem::remove(path, ignored);
}

}  // namespace hew::train
