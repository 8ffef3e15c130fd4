// SPDX-License-Identifier: LGPL-2.1-or-later
// What the parts of one session share. Everything here is used on the session's thread, except
// mailbox.post, statistics and tell, which any thread may use.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "failover/arbiter_thread.h"
#include "libft/session.h"
#include "session/mailbox.h"
#include "session/statistics.h"

namespace libft::session {

struct Context {
  SessionParts parts;
  SessionOptions options;
  Mailbox& mailbox;
  Statistics& statistics;
  failover::ArbiterThread& arbiter;
  std::mutex& replica_mutex;  // Held while the session's replica is replaced, and by other readers.
  // A guest that followed here was promoted, and its gate rewrites connections for it.
  bool rewrites = false;
  // An event for the host and a line for the log.
  std::function<void(LogLevel level, std::string name, std::string text, std::string json)> tell;

  Time now() const { return parts.clock.now(); }
};

// Guards what other threads post against running after its owner has gone: the owner lives and dies
// on the session's thread, where posted work runs too.
class Posting {
 public:
  explicit Posting(Mailbox& mailbox) : mailbox_(mailbox) {}

  // Any thread may call the result.
  template <class... Args, class F>
  std::function<void(Args...)> later(F f) const {
    return [&mailbox = mailbox_, alive = std::weak_ptr<int>(alive_), f](Args... args) {
      mailbox.post([alive, f, ... args = std::move(args)]() mutable {
        if (alive.lock()) f(std::move(args)...);
      });
    };
  }
  // What was handed out before runs no more.
  void forget() { alive_ = std::make_shared<int>(0); }

 private:
  Mailbox& mailbox_;
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);
};

}  // namespace libft::session
