// SPDX-License-Identifier: LGPL-2.1-or-later
#include "demo/lost_bit.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <string_view>
#include <thread>
#include <vector>

#include "base/checksum.h"
#include "os/fd.h"
#include "os/real_clock.h"

namespace libft::demo {
namespace {

constexpr std::size_t kPageBytes = 4096;
constexpr std::uint64_t kGuestBase = 0x80000000;
// Where Linux lies, and what its image begins with (Documentation/riscv/boot-image-header).
constexpr std::uint64_t kKernelOffset = 0x200000, kMagicOffset = 0x38;
constexpr std::string_view kMagic = "RSC\x05";
constexpr int kLooks = 4;
constexpr std::chrono::milliseconds kBetweenLooks{60};

struct Mapping {
  std::uint64_t begin = 0, end = 0;
};

// Private memory without a name, large enough for the guest's.
std::vector<Mapping> mappings_of(pid_t pid, std::uint64_t memory_bytes) {
  std::vector<Mapping> found;
  std::ifstream maps(fmt::format("/proc/{}/maps", pid));
  for (std::string line; std::getline(maps, line);) {
    unsigned long begin = 0, end = 0, offset = 0, inode = 1;
    std::array<char, 5> how{};
    if (std::sscanf(line.c_str(), "%lx-%lx %4s %lx %*s %lu", &begin, &end, how.data(), &offset,
                    &inode) != 5)
      continue;
    if (inode == 0 && std::string_view(how.data()) == "rw-p" && end - begin >= memory_bytes)
      found.push_back({begin, end});
  }
  return found;
}

class Memory {
 public:
  static Result<Memory> open(pid_t pid) {
    const std::string path = fmt::format("/proc/{}/mem", pid);
    os::ScopedFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    if (!fd.valid()) return failure(os::errno_status("open " + path));
    return Memory(std::move(fd));
  }

  bool read(std::uint64_t at, std::span<std::byte> to) const {
    return ::pread(fd_.get(), to.data(), to.size(), static_cast<off_t>(at)) ==
           static_cast<ssize_t>(to.size());
  }
  bool write(std::uint64_t at, std::byte value) const {
    return ::pwrite(fd_.get(), &value, 1, static_cast<off_t>(at)) == 1;
  }

 private:
  explicit Memory(os::ScopedFd fd) : fd_(std::move(fd)) {}
  os::ScopedFd fd_;
};

// Where the guest's memory may begin. Copies that libft keeps of it begin at no page.
std::vector<std::uint64_t> candidates(const Memory& memory, const std::vector<Mapping>& mappings,
                                      std::uint64_t memory_bytes) {
  std::vector<std::uint64_t> found;
  std::array<std::byte, kMagic.size()> magic{};
  for (const Mapping& mapping : mappings)
    for (std::uint64_t at = mapping.begin; at + memory_bytes <= mapping.end; at += kPageBytes)
      if (memory.read(at + kKernelOffset + kMagicOffset, magic) &&
          std::memcmp(magic.data(), kMagic.data(), kMagic.size()) == 0)
        found.push_back(at);
  return found;
}

std::vector<std::uint64_t> page_hashes(const Memory& memory, std::uint64_t base,
                                       std::uint64_t memory_bytes) {
  std::vector<std::byte> bytes(memory_bytes);
  if (!memory.read(base, bytes)) return {};
  std::vector<std::uint64_t> hashes;
  for (std::size_t at = 0; at < bytes.size(); at += kPageBytes)
    hashes.push_back(base::checksum(std::span(bytes).subspan(at, kPageBytes)));
  return hashes;
}

// Pages that somebody writes to all the time.
std::vector<std::size_t> written_pages(const Memory& memory, std::uint64_t base,
                                       std::uint64_t memory_bytes) {
  auto before = page_hashes(memory, base, memory_bytes);
  std::vector<int> written(before.size());
  for (int look = 1; look < kLooks; ++look) {
    std::this_thread::sleep_for(kBetweenLooks);
    auto now = page_hashes(memory, base, memory_bytes);
    if (now.size() != before.size()) return {};
    for (std::size_t i = 0; i < now.size(); ++i) written[i] += now[i] != before[i];
    before = std::move(now);
  }
  std::vector<std::size_t> pages;
  for (std::size_t i = 0; i < written.size(); ++i)
    if (written[i] == kLooks - 1) pages.push_back(i);
  return pages;
}

}  // namespace

std::string describe(const LostBit& lost) {
  return fmt::format(
      "bit {} of the byte at {:#x}, in one of {} pages that it writes to all the time", lost.bit,
      lost.address, lost.pages);
}

Result<LostBit> lose_a_bit(pid_t pid, std::uint64_t memory_bytes, std::mt19937_64& random) {
  FT_ASSIGN(const Memory memory, Memory::open(pid));
  std::uint64_t base = 0;
  std::vector<std::size_t> pages;
  for (const std::uint64_t at : candidates(memory, mappings_of(pid, memory_bytes), memory_bytes)) {
    auto written = written_pages(memory, at, memory_bytes);
    if (written.size() <= pages.size()) continue;
    base = at;
    pages = std::move(written);
  }
  if (pages.empty())
    return failure(Code::not_found,
                   fmt::format("no Linux that runs was found in the memory of process {}", pid));
  const std::uint64_t offset = pages[random() % pages.size()] * kPageBytes + random() % kPageBytes;
  LostBit lost;
  lost.address = kGuestBase + offset;
  lost.bit = static_cast<unsigned>(random() % 8);
  lost.pages = pages.size();
  std::array<std::byte, 1> byte{};
  const bool read = memory.read(base + offset, byte);
  lost.at = os::RealClock().now();
  if (!read || !memory.write(base + offset, byte[0] ^ (std::byte{1} << lost.bit)))
    return failure(os::errno_status(fmt::format("flip a bit of process {}", pid)));
  return lost;
}

}  // namespace libft::demo
