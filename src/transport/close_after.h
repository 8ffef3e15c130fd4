// SPDX-License-Identifier: LGPL-2.1-or-later
// CloseAfter closes a connection that takes too long: a deadline for a handshake over a Transport,
// whose own calls wait as long as it takes. Made and destroyed by the thread that waits.
#pragma once

#include <condition_variable>
#include <mutex>
#include <thread>

#include "libft/transport.h"

namespace libft::transport {

class CloseAfter {
 public:
  CloseAfter(Transport& transport, Nanos timeout);  // Borrowed: outlives this.
  ~CloseAfter();                                    // In time: the connection stays.
  CloseAfter(const CloseAfter&) = delete;
  CloseAfter& operator=(const CloseAfter&) = delete;

  bool fired() const;

 private:
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  bool done_ = false;
  bool fired_ = false;
  std::jthread thread_;
};

}  // namespace libft::transport
