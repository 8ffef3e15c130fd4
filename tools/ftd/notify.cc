// SPDX-License-Identifier: LGPL-2.1-or-later
#include "notify.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>

#include "descriptor.h"

namespace libft::ftd {

namespace {

std::string take_variable(const char* name) {
  const char* value = std::getenv(name);
  const std::string text = value == nullptr ? "" : value;
  ::unsetenv(name);  // What ftd starts must not speak in its name.
  return text;
}

}  // namespace

Notifier::Notifier() : socket_(take_variable("NOTIFY_SOCKET")) {
  const long long us = std::atoll(take_variable("WATCHDOG_USEC").c_str());
  if (us > 0) period_ = std::chrono::milliseconds(us / 2000);
}

void Notifier::send(const std::string& text) const {
  sockaddr_un address{};
  if (socket_.empty() || socket_.size() >= sizeof address.sun_path) return;
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, socket_.c_str(), socket_.size());
  if (socket_[0] == '@') address.sun_path[0] = '\0';  // An abstract one.
  const ftctl::Descriptor fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const auto bytes = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + socket_.size());
  (void)!::sendto(fd.get(), text.data(), text.size(), MSG_NOSIGNAL,
                  reinterpret_cast<const sockaddr*>(&address), bytes);
}

void Notifier::ready(const std::string& status) {
  told_ = status;
  send("READY=1\nSTATUS=" + status);
}

void Notifier::status(const std::string& status) {
  if (period_) send("WATCHDOG=1");
  if (status == told_) return;
  told_ = status;
  send("STATUS=" + status);
}

void Notifier::stopping() { send("STOPPING=1"); }

}  // namespace libft::ftd
