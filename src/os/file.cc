// SPDX-License-Identifier: LGPL-2.1-or-later
#include "os/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>

#include "os/random.h"

namespace libft::os {
namespace {

std::string folder_of(const std::string& path) {
  const auto slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

// Another name for every writer: two that replace the same file at once must not share one.
Result<std::string> temporary_name(const std::string& path) {
  std::array<std::uint8_t, 8> random{};
  FT_TRY(random_bytes(random));
  std::string name = path + ".new-";
  for (const std::uint8_t byte : random) name += fmt::format("{:02x}", byte);
  return name;
}

Status write_and_sync(const std::string& path, std::string_view text, mode_t mode) {
  ScopedFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode));
  if (!file.valid()) return errno_status("create " + path);
  if (Status wrote = write_all(file.get(), text); !wrote.ok()) return wrote.within(path);
  if (::fsync(file.get()) != 0) return errno_status("fsync " + path);
  return {};
}

Status sync_folder(const std::string& folder) {
  ScopedFd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return errno_status("open folder " + folder);
  if (::fsync(fd.get()) != 0) return errno_status("fsync folder " + folder);
  return {};
}

}  // namespace

Status write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t wrote = ::write(fd, text.data(), text.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) return errno_status("write");
    text.remove_prefix(static_cast<std::size_t>(wrote));
  }
  return {};
}

Status write_file_atomically(const std::string& path, std::string_view text, mode_t mode) {
  FT_ASSIGN(const std::string temporary, temporary_name(path));
  Status wrote = write_and_sync(temporary, text, mode);
  if (wrote.ok() && ::rename(temporary.c_str(), path.c_str()) != 0)
    wrote = errno_status("rename to " + path);
  if (!wrote.ok()) {
    ::unlink(temporary.c_str());
    return wrote;
  }
  return sync_folder(folder_of(path));
}

Result<std::string> read_file(const std::string& path, std::size_t bytes_max) {
  ScopedFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid()) return failure(errno_status("open " + path));
  std::string text;
  std::array<char, 16384> piece;
  for (;;) {
    const ssize_t got = ::read(file.get(), piece.data(), piece.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return failure(errno_status("read " + path));
    if (got == 0) return text;
    text.append(piece.data(), static_cast<std::size_t>(got));
    if (text.size() > bytes_max)
      return failure(Code::exhausted,
                     fmt::format("read {}: it is larger than {} bytes", path, bytes_max));
  }
}

}  // namespace libft::os
