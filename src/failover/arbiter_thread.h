// SPDX-License-Identifier: LGPL-2.1-or-later
// ArbiterThread asks an arbiter without ever making the caller wait: each request has a deadline,
// at which it is answered `unknown` whatever the arbiter is doing. Sessions own one each. Any
// thread may post. Callbacks come from threads of this object, one at a time, exactly once a
// request, and return quickly; after the destructor has returned none comes any more.
#pragma once

#include <functional>
#include <memory>

#include "libft/arbiter.h"
#include "libft/fence.h"

namespace libft::failover {

class ArbiterThread {
 public:
  struct Limits {
    Nanos deadline = Millis{3000};  // Of each request, the time in the queue included.
    Nanos fence_deadline = Millis{10000};
    std::size_t waiting_max = 16;  // More are answered `unknown` at once, from post's caller.
  };

  explicit ArbiterThread(std::unique_ptr<Arbiter> arbiter);
  ArbiterThread(std::unique_ptr<Arbiter> arbiter, Limits limits);

  // Does not wait for an arbiter that hangs: its thread is left behind with all it needs and ends
  // when the call returns. Not to be called from a callback. Requests without answer get none.
  ~ArbiterThread();
  ArbiterThread(const ArbiterThread&) = delete;
  ArbiterThread& operator=(const ArbiterThread&) = delete;

  const std::string& description() const { return description_; }
  bool automatic() const { return automatic_; }

  // A request that is answered `unknown` while it still waits in the queue is not made any more.
  // One that was begun may have its effect later: as with any arbiter, ask until it is definite.
  void post_create(const GuestId& guest, const OwnershipRecord& record,
                   std::function<void(SwapAnswer)> done);
  void post_swap(const GuestId& guest, const OwnershipRecord& from, const OwnershipRecord& to,
                 std::function<void(SwapAnswer)> done);
  void post_read(const GuestId& guest, std::function<void(ReadAnswer)> done);

  // Runs a fence in the same thread, after what was posted before it.
  void post_fence(std::shared_ptr<Fence> fence, const GuestId& guest, const Incarnation& loser,
                  std::function<void(Status)> done);

 private:
  struct Request;
  struct Shared;

  void post(Request request, Nanos deadline);

  Limits limits_;
  std::string description_;
  bool automatic_;
  std::shared_ptr<Shared> shared_;
};

}  // namespace libft::failover
