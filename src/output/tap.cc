// SPDX-License-Identifier: LGPL-2.1-or-later
#include "output/tap.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

namespace libft::output {
namespace {

// Frames that the kernel keeps for us between two reads; its default of 500 is one burst of a
// gigabit link during a short pause of this process.
constexpr int kReadQueueFrames = 4096;

ifreq request_for(const std::string& name) {
  ifreq request{};
  std::memcpy(request.ifr_name, name.data(), name.size());
  return request;
}

Status set_up(const std::string& name) {
  os::ScopedFd control(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!control.valid()) return os::errno_status("open a control socket");
  ifreq queue = request_for(name);
  queue.ifr_qlen = kReadQueueFrames;
  ::ioctl(control.get(), SIOCSIFTXQLEN, &queue);  // Without the privilege the default must do.
  ifreq flags = request_for(name);
  if (::ioctl(control.get(), SIOCGIFFLAGS, &flags) != 0) {
    return os::errno_status(fmt::format("read the flags of {}", name));
  }
  if ((flags.ifr_flags & IFF_UP) != 0) return {};
  flags.ifr_flags = static_cast<short>(flags.ifr_flags | IFF_UP);
  if (::ioctl(control.get(), SIOCSIFFLAGS, &flags) != 0) {
    return os::errno_status(fmt::format("set {} up (`ip link set {} up` as root)", name, name));
  }
  return {};
}

}  // namespace

Result<os::ScopedFd> open_tap(const std::string& name) {
  if (name.empty() || name.size() >= IFNAMSIZ) {
    return failure(Code::invalid, fmt::format("TAP device \"{}\": a name has 1 to {} characters",
                                              name, IFNAMSIZ - 1));
  }
  os::ScopedFd fd(::open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid()) {
    return failure(os::errno_status("open /dev/net/tun (is the tun module loaded?)"));
  }
  ifreq request = request_for(name);
  request.ifr_flags = IFF_TAP | IFF_NO_PI;
  if (::ioctl(fd.get(), TUNSETIFF, &request) != 0) {
    const std::string remedy =
        errno == EBUSY ? " (another process has it open)"
                       : fmt::format(" (`ip tuntap add {} mode tap user $USER` as root)", name);
    return failure(os::errno_status(fmt::format("attach to TAP device {}{}", name, remedy)));
  }
  FT_TRY(set_up(name));
  return fd;
}

}  // namespace libft::output
