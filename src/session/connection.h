// SPDX-License-Identifier: LGPL-2.1-or-later
// A Connection is a primary's link to one backup, with a thread each way: the sender encodes and
// sends what it is given, in order, while the session goes on; the receiver cuts the stream into
// messages and posts them. Used by the session's thread only.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "libft/transport.h"
#include "wire/frame.h"

namespace libft::session {

class Connection {
 public:
  struct Sinks {  // Called from the connection's threads; they return quickly.
    std::function<void(wire::Message)> message;
    std::function<void(Status)> broken;  // Once: whichever direction fails first.
    // Bulk frames, from a peer that sends any; its failure is one of the connection. None: from
    // this peer they are corrupt.
    std::function<Status(const wire::Frame&)> bulk{};
  };
  using Job = std::function<Status(Transport&)>;  // Runs in the sender's thread.

  // `received`: the bytes already read from it, beginning behind the Hello frame.
  Connection(std::unique_ptr<Transport> transport, const GuestId& guest,
             std::vector<std::byte> received, Sinks sinks);
  ~Connection();  // Closes and waits for both threads; jobs not begun are dropped.

  void send(Job job);
  // The same for a short one, which need not wait for the rest of a long one that gives way.
  void send_beside(Job job);
  void send(std::vector<std::byte> frame);
  // A long job calls this between its sends: what came behind it and need not wait goes first.
  Status give_way();
  std::string description() const { return transport_->description(); }

 private:
  struct Waiting {
    Job job;
    bool beside = false;
  };
  void enqueue(Waiting waiting);
  void run_sender();
  void run_receiver(std::vector<std::byte> received);
  Status receive_all(wire::FrameReader& reader);
  void break_with(Status status);

  std::unique_ptr<Transport> transport_;
  GuestId guest_;
  Sinks sinks_;
  std::mutex mutex_;
  std::condition_variable queued_;
  std::deque<Waiting> jobs_;  // At most inflight_max epochs and a few messages.
  bool closing_ = false, broken_ = false;
  std::jthread sender_, receiver_;
};

}  // namespace libft::session
