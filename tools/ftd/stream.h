// SPDX-License-Identifier: LGPL-2.1-or-later
// A Stream is ftd's ear at one serving ftctl: a connection to its control socket that never blocks.
// One thread.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "descriptor.h"

namespace libft::ftd {

class Stream {
 public:
  static Result<Stream> open(const std::string& path);

  int fd() const { return fd_.get(); }
  Status ask(const nlohmann::json& request);
  // Appends what has come, whole lines only. A failure: the connection has ended.
  Status read(std::vector<nlohmann::json>& answers);

 private:
  explicit Stream(ftctl::Descriptor fd) : fd_(std::move(fd)) {}
  ftctl::Descriptor fd_;
  std::string received_;
};

}  // namespace libft::ftd
