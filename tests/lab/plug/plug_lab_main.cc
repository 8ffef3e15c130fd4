// SPDX-License-Identifier: LGPL-2.1-or-later
// The only process of the virtual machine in which the plug gate is tested: it loads the kernel's
// modules, runs the tests, prints PASS or FAIL, and ends the machine.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>

namespace {

bool done(int result, const char* what) {
  if (result != 0) fmt::print("{}: {}\n", what, std::strerror(errno));
  return result == 0;
}

// /modules/order names them, each after those that it needs.
bool load_modules() {
  std::ifstream order("/modules/order");
  for (std::string name; order >> name;) {
    const int fd = ::open(("/modules/" + name).c_str(), O_RDONLY | O_CLOEXEC);
    const bool loaded =
        done(static_cast<int>(::syscall(SYS_finit_module, fd, "", 0)), name.c_str());
    ::close(fd);
    if (!loaded) return false;
  }
  return true;
}

bool start_machine() {
  return done(::mount("proc", "/proc", "proc", 0, nullptr), "mount /proc") &&
         done(::mount("sysfs", "/sys", "sysfs", 0, nullptr), "mount /sys") && load_modules() &&
         done(::mount("devtmpfs", "/dev", "devtmpfs", 0, nullptr), "mount /dev");
}

}  // namespace

int main(int argc, char** argv) {
  ::utsname system{};
  ::uname(&system);
  fmt::print("kernel {}\n", system.release);
  bool good = start_machine();
  if (good) {
    doctest::Context context(argc, argv);  // The kernel passes on what follows `--`.
    context.setOption("no-breaks", true);
    context.setOption("duration", true);
    good = context.run() == 0;
  }
  fmt::print("{}\n", good ? "PASS" : "FAIL");
  std::fflush(stdout);
  ::sync();
  ::reboot(RB_AUTOBOOT);  // QEMU runs with -no-reboot.
  return 1;
}
