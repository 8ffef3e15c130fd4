// SPDX-License-Identifier: LGPL-2.1-or-later
// QEMU guests for tests: the tiny guest (tiny_guest.S) in folders of their own, with a second
// monitor that plays the owner. One test at a time.
#pragma once

#include <doctest/doctest.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "guest/qemu/qemu_guest.h"

namespace libft::test {

// A folder that goes with the object.
class Folder {
 public:
  Folder() {
    char name[] = "/tmp/libft-qemu-XXXXXX";
    REQUIRE(::mkdtemp(name) != nullptr);
    path_ = name;
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

inline bool eventually(const std::function<bool()>& condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

inline bool qemu_is_there() {
  return std::system("command -v qemu-system-x86_64 >/dev/null 2>&1") == 0;
}

constexpr std::size_t kCountAt = 0x200000;
constexpr std::size_t kOrderAt = 0x200010;

inline std::uint32_t word_at(const Guest& guest, std::size_t address) {
  std::uint32_t word = 0;
  std::memcpy(&word, guest.info().memory[0].bytes.data() + address, sizeof word);
  return word;
}
inline void order(const Guest& guest, std::uint32_t what) {
  std::memcpy(guest.info().memory[0].bytes.data() + kOrderAt, &what, sizeof what);
}
inline bool counts_on(const Guest& guest) {
  const std::uint32_t before = word_at(guest, kCountAt);
  return eventually([&] { return word_at(guest, kCountAt) > before + 20; });
}

inline qemu::QemuDescription tiny_description(const Folder& folder, bool with_nic = false) {
  qemu::QemuDescription description;
  description.memory_bytes = 64ull << 20;
  description.kernel = LIBFT_TINY_GUEST;
  description.extra = {"-device", "pvpanic", "-qmp",
                       "unix:" + (folder / "owner") + ",server=on,wait=off"};
  if (with_nic) description.nics.push_back({"virtio-net-pci,romfile=", "52:54:00:00:00:01"});
  return description;
}

inline qemu::QemuOptions tiny_options(const Folder& folder, bool with_nic = false) {
  qemu::QemuOptions options;
  options.paths.qmp = folder / "qmp";
  if (with_nic) options.paths.nics.push_back({folder / "guest0", folder / "gate0"});
  options.launch.preload = LIBFT_PRELOAD;
  return options;
}

// A running tiny guest; it ends with the object.
struct TinyGuest {
  explicit TinyGuest(bool with_nic = false) {
    auto started =
        qemu::QemuGuest::start(tiny_description(folder, with_nic), tiny_options(folder, with_nic));
    REQUIRE_MESSAGE(started, started.error().to_string());
    guest = std::move(*started);
    REQUIRE(counts_on(*guest));
  }
  ~TinyGuest() {
    if (guest) guest->destroy();
  }
  Folder folder;
  std::unique_ptr<qemu::QemuGuest> guest;
};

inline std::unique_ptr<qemu::QemuGuest> tiny_standby(const GuestInfo& primary, const Folder& folder,
                                                     bool with_nic = false) {
  qemu::QemuStandbyOptions options;
  options.arguments.paths = tiny_options(folder, with_nic).paths;
  options.launch.preload = LIBFT_PRELOAD;
  auto standby = qemu::QemuGuest::start_standby(primary, options);
  REQUIRE_MESSAGE(standby, standby.error().to_string());
  return std::move(*standby);
}

}  // namespace libft::test
