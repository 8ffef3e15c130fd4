// SPDX-License-Identifier: LGPL-2.1-or-later
// Connections inside one process, through a bounded buffer in each direction: for tests, and for a
// pair within one program. Threads: as the port says; the two ends may be in different threads.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "libft/transport.h"

namespace libft::transport {

// The two ends of a new connection. A sender waits while `bytes_max` are not received yet.
std::pair<std::unique_ptr<Transport>, std::unique_ptr<Transport>> make_memory_pair(
    std::size_t bytes_max = 256 * 1024);

// Where "memory:NAME" is listened for and connected to. Outlives what it made.
class MemoryHub {
 public:
  MemoryHub();
  ~MemoryHub();
  Result<std::unique_ptr<Listener>> listen(const std::string& name);  // Code::busy: taken.
  Result<std::unique_ptr<Transport>> connect(const std::string& name);

  struct Shared;

 private:
  std::shared_ptr<Shared> shared_;
};

}  // namespace libft::transport
