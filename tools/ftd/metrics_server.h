// SPDX-License-Identifier: LGPL-2.1-or-later
// Answers any HTTP request with Prometheus text. One connection after another on a thread of its
// own, each with a deadline: it is asked every few seconds, by one.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "os/event_fd.h"
#include "os/fd.h"

namespace libft::ftd {

class MetricsServer {
 public:
  // `address`: "127.0.0.1:9177". `text` is called on the server's thread.
  static Result<std::unique_ptr<MetricsServer>> open(const std::string& address,
                                                     std::function<std::string()> text);
  ~MetricsServer();

  const std::string& address() const { return address_; }

 private:
  MetricsServer(os::ScopedFd listening, os::EventFd stop, std::string address,
                std::function<std::string()> text);
  void serve();
  void answer(const os::ScopedFd& connection);

  os::ScopedFd listening_;
  os::EventFd stop_;
  std::string address_;
  std::function<std::string()> text_;
  std::jthread thread_;
};

}  // namespace libft::ftd
