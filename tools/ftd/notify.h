// SPDX-License-Identifier: LGPL-2.1-or-later
// Tells systemd how ftd fares: a datagram to the socket that NOTIFY_SOCKET names (sd_notify(3)).
// Without one it does nothing. One thread.
#pragma once

#include <chrono>
#include <optional>
#include <string>

namespace libft::ftd {

class Notifier {
 public:
  Notifier();  // Reads the environment, and takes it away from children.

  void ready(const std::string& status);
  void status(const std::string& status);  // Sends it when it has changed, and the watchdog's sign.
  void stopping();
  // How often status() is wanted.
  std::optional<std::chrono::milliseconds> period() const { return period_; }

 private:
  void send(const std::string& text) const;
  std::string socket_, told_;
  std::optional<std::chrono::milliseconds> period_;
};

}  // namespace libft::ftd
