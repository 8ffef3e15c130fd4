// SPDX-License-Identifier: LGPL-2.1-or-later
#include "failover/record_folder.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <charconv>
#include <memory>

#include "base/hex.h"
#include "failover/answers.h"
#include "os/fd.h"
#include "os/file.h"
#include "os/random.h"

namespace libft::failover {
namespace {

constexpr std::size_t kRecordBytesMax = 64 << 10;
constexpr int kTriesMax = 5;
// Older generations only tell people what happened. That a swept name is free again is harmless:
// swap() looks at the newest after linking, and a link so far below it has won nothing.
constexpr std::uint64_t kGenerationsKept = 64;

std::string file_name(Generation generation) { return fmt::format("{}.json", generation.value); }

std::optional<Generation> generation_of(std::string_view name) {
  Generation generation;
  const auto [end, error] =
      std::from_chars(name.data(), name.data() + name.size(), generation.value);
  if (error != std::errc{} || name != file_name(generation)) return std::nullopt;
  return generation;
}

// No guest's name contains '#'.
Result<std::string> unused_name() {
  std::uint8_t random[8];
  FT_TRY(os::random_bytes(random));
  return "#" + base::to_hex(random);
}

Status sync_folder(const std::string& path) {
  const os::ScopedFd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return os::errno_status("open " + path);
  if (::fsync(fd.get()) != 0) return os::errno_status("sync " + path);
  return {};
}

Status write_new(const std::string& path, const OwnershipRecord& record) {
  const os::ScopedFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
  if (!fd.valid()) return os::errno_status("create " + path);
  FT_TRY(os::write_all(fd.get(), to_string(record) + "\n").within("write " + path));
  if (::fsync(fd.get()) != 0) return os::errno_status("sync " + path);
  return {};
}

using Directory = std::unique_ptr<DIR, int (*)(DIR*)>;

// Nothing: no record. A failure: nobody knows.
Result<std::optional<Generation>> newest_name(const std::string& directory,
                                              const std::string& folder) {
  const Directory open(::opendir(folder.c_str()), ::closedir);
  if (!open) {
    if (errno != ENOENT) return failure(os::errno_status("open " + folder));
    // A guest without a record is one thing, a directory that is not mounted another.
    if (::access(directory.c_str(), R_OK | X_OK) != 0)
      return failure(os::errno_status("open " + directory + " (is it made, and mounted?)"));
    return std::nullopt;
  }
  std::optional<Generation> newest;
  errno = 0;
  while (const dirent* entry = ::readdir(open.get())) {
    const auto generation = generation_of(entry->d_name);
    if (generation && (!newest || *generation > *newest)) newest = generation;
    errno = 0;
  }
  if (errno != 0) return failure(os::errno_status("list " + folder));
  return newest;
}

Result<OwnershipRecord> read_record(const std::string& path, Generation generation) {
  FT_ASSIGN(const std::string text, os::read_file(path, kRecordBytesMax));
  auto record = record_from_string(text);
  if (!record) return failure(record.error().within(path));
  if (record->generation != generation)
    return failure(Code::corrupt, fmt::format("{}: holds generation {}, not its name's", path,
                                              record->generation.value));
  return record;
}

}  // namespace

Result<std::optional<OwnershipRecord>> RecordFolder::newest(const GuestId& guest) const {
  if (guest.name().empty()) return failure(Code::invalid, "a guest without a name has no record");
  for (int tries = 0; tries < kTriesMax; ++tries) {
    FT_ASSIGN(const auto generation, newest_name(directory_, folder(guest)));
    if (!generation) return std::nullopt;
    auto record = read_record(folder(guest) + "/" + file_name(*generation), *generation);
    if (record) return *record;
    // Not found: so many swaps happened since the listing that this one was swept away.
    if (record.error().code() != Code::not_found) return failure(record.error());
  }
  return failure(Code::busy, folder(guest) + ": changes faster than it can be read");
}

Result<bool> RecordFolder::place(const GuestId& guest, const OwnershipRecord& record) const {
  FT_ASSIGN(const std::string name, unused_name());
  const std::string draft = folder(guest) + "/" + name;
  const std::string path = folder(guest) + "/" + file_name(record.generation);
  const Status written = write_new(draft, record);
  const int linked = written.ok() ? ::link(draft.c_str(), path.c_str()) : -1;
  const int error = errno;
  ::unlink(draft.c_str());
  if (!written.ok()) return failure(written);
  if (linked != 0 && error == EEXIST) return false;
  if (linked != 0)
    return failure(os::errno_status(
        fmt::format("link {} (the file system must know hard links)", path), error));
  FT_TRY(sync_folder(folder(guest)));
  return true;
}

SwapAnswer RecordFolder::swap(const GuestId& guest, const OwnershipRecord& from,
                              const OwnershipRecord& to) const {
  if (auto wrong = refuse_generation(from, to)) return *wrong;
  const auto before = newest(guest);
  if (!before) return unknown(before.error().to_string());
  if (!*before) return unknown(missing_text(guest));
  if (**before == to) return won(to);
  if (**before != from) return lost(**before);
  const auto placed = place(guest, to);
  if (!placed) return unknown(placed.error().to_string());
  // Also after "the name is taken": NFS answers so when it did the work and its first answer was
  // lost. What is written there now says who won.
  const auto after = newest(guest);
  if (!after) return unknown(after.error().to_string());
  if (!*after) return unknown(missing_text(guest));
  const bool kept = (*after)->generation.value < to.generation.value + kGenerationsKept;
  const bool first = *placed && kept;  // Somebody may have swapped `to` away since: it was ours.
  if (**after != to && !first) return lost(**after);
  if (to.generation.value > kGenerationsKept) {
    const Generation old{to.generation.value - kGenerationsKept};
    ::unlink((folder(guest) + "/" + file_name(old)).c_str());
  }
  return won(to);
}

ReadAnswer RecordFolder::read(const GuestId& guest) const {
  const auto record = newest(guest);
  if (!record) return read_unknown(record.error().to_string());
  return *record ? read_found(**record) : read_missing();
}

namespace {

// The folder appears with its first record in it, so that of two creators one wins.
Result<bool> create_folder(const std::string& directory, const std::string& folder,
                           const OwnershipRecord& record) {
  FT_ASSIGN(const std::string name, unused_name());
  const std::string draft = directory + "/" + name;
  const std::string file = draft + "/" + file_name(record.generation);
  if (::mkdir(draft.c_str(), 0755) != 0)
    return failure(os::errno_status("create " + draft + " (is the directory made and writable?)"));
  Status status = write_new(file, record);
  if (status.ok()) status = sync_folder(draft);
  bool created = false;
  if (status.ok()) {
    // rename() replaces an empty folder and no other.
    created = ::rename(draft.c_str(), folder.c_str()) == 0;
    if (!created && errno != ENOTEMPTY && errno != EEXIST)
      status = os::errno_status("rename to " + folder);
  }
  if (!created) {
    ::unlink(file.c_str());
    ::rmdir(draft.c_str());
  }
  if (!status.ok()) return failure(status);
  if (created) FT_TRY(sync_folder(directory));
  return created;
}

}  // namespace

SwapAnswer RecordFolder::create(const GuestId& guest, const OwnershipRecord& record) const {
  const auto before = newest(guest);
  if (!before) return unknown(before.error().to_string());
  if (*before) return lost(**before);
  const auto created = create_folder(directory_, folder(guest), record);
  if (!created) return unknown(created.error().to_string());
  if (*created) return won(record);
  const auto after = newest(guest);
  if (!after) return unknown(after.error().to_string());
  if (*after) return lost(**after);
  return unknown(folder(guest) + ": is there and holds no record: empty it, or restore its record");
}

Status RecordFolder::adopt(const GuestId& guest, const OwnershipRecord& record) const {
  FT_ASSIGN(const auto before, newest(guest));
  if (before && *before == record) return {};
  if (before && before->generation >= record.generation)
    return Status(Code::refused, fmt::format("{} holds a record as new or newer: {}", folder(guest),
                                             to_string(*before)));
  if (::mkdir(folder(guest).c_str(), 0755) != 0 && errno != EEXIST)
    return os::errno_status("create " + folder(guest));
  FT_ASSIGN(const bool placed, place(guest, record));
  if (!placed) return Status(Code::busy, folder(guest) + ": changed meanwhile: look again");
  return {};
}

}  // namespace libft::failover
